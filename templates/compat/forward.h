/* Calls to functions of glibc by the version of them that old systems have as well.

   A new glibc gives some functions a new version: because they moved between its libraries, or set `errno`
   otherwise. The linker takes the newest, and the library does not load on a system that lacks it.
   `FORWARD(exp, "2.2.5")` defines `exp` inside one library as a jump to the older version, which every glibc
   keeps. */
#ifndef KERNEL_COMPAT_FORWARD_H
#define KERNEL_COMPAT_FORWARD_H

#include <features.h>

#define FORWARD(name, version) FORWARD_TO(name, name, version)

#if defined(__x86_64__)
#define FORWARD_TO(name, older, version)                                                  \
  __asm__(".symver kernel_older_" #name "," #older "@GLIBC_" version                      \
          "\n"                                                                            \
          ".text\n.globl " #name "\n.hidden " #name "\n.type " #name ",@function\n" #name \
          ": jmp kernel_older_" #name "@PLT\n.size " #name ",.-" #name "\n");
#define SYMBOL_VERSION(name, older, version) __asm__(".symver " #name "," #older "@GLIBC_" version);
#define BASE "2.2.5"
#elif defined(__aarch64__)
/* The first glibc for this machine was 2.17: nothing in it has an older version. */
#define FORWARD_TO(name, older, version)                                                  \
  __asm__(".symver kernel_older_" #name "," #older                                        \
          "@GLIBC_2.17\n"                                                                 \
          ".text\n.globl " #name "\n.hidden " #name "\n.type " #name ",%function\n" #name \
          ": b kernel_older_" #name "\n.size " #name ",.-" #name "\n");
#define SYMBOL_VERSION(name, older, version) __asm__(".symver " #name "," #older "@GLIBC_2.17");
#define BASE "2.17"
#endif

#if defined(FORWARD_TO) && defined(__GLIBC__)
#define NEWER_THAN(minor) (__GLIBC__ == 2 && __GLIBC_MINOR__ > (minor))
#else
#define NEWER_THAN(minor) 0
#endif

#endif
