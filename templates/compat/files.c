/* `stat` and its kin: before glibc 2.33 the header turned them into calls that say which layout they want. */
#include "forward.h"

#if NEWER_THAN(32)
#if defined(__x86_64__)
#define LAYOUT 1
#else
#define LAYOUT 0
#endif
#define HIDDEN __attribute__((visibility("hidden")))

struct stat;
int kernel_older_stat(int, const char*, struct stat*);
int kernel_older_lstat(int, const char*, struct stat*);
int kernel_older_fstat(int, int, struct stat*);
int kernel_older_fstatat(int, int, const char*, struct stat*, int);
SYMBOL_VERSION(kernel_older_stat, __xstat, BASE)
SYMBOL_VERSION(kernel_older_lstat, __lxstat, BASE)
SYMBOL_VERSION(kernel_older_fstat, __fxstat, BASE)
SYMBOL_VERSION(kernel_older_fstatat, __fxstatat, "2.4")

HIDDEN int stat(const char* path, struct stat* out) { return kernel_older_stat(LAYOUT, path, out); }
HIDDEN int lstat(const char* path, struct stat* out) { return kernel_older_lstat(LAYOUT, path, out); }
HIDDEN int fstat(int file, struct stat* out) { return kernel_older_fstat(LAYOUT, file, out); }
HIDDEN int fstatat(int directory, const char* path, struct stat* out, int flags) {
  return kernel_older_fstatat(LAYOUT, directory, path, out, flags);
}
#endif
