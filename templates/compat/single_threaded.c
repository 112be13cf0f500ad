/* libstdc++ asks this variable (glibc 2.32) whether the process has one thread, and then skips atomic
   operations on reference counts. A kernel is loaded into processes with many threads: zero is the answer
   that is always safe. */
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
