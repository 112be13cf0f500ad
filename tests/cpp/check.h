// The smallest test library: CHECK(condition) counts failures and says where, with the values of a case.
#pragma once

#include <cstdio>

inline int& failures() {
  static int count = 0;
  return count;
}

#define CHECK(condition, ...)                                       \
  do {                                                              \
    if (!(condition)) {                                             \
      if (++failures() <= 20) {                                     \
        std::printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
        std::printf(__VA_ARGS__);                                   \
        std::printf("\n");                                          \
      }                                                             \
    }                                                               \
  } while (false)

inline int report() {
  if (failures() > 0) std::printf("%d checks failed\n", failures());
  return failures() > 0 ? 1 : 0;
}
