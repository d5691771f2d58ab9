// CHECK: an invariant of ours is broken. It stays on in release builds and ends the process.
// It is not for input: a file, a request or a flag must never be able to reach a CHECK; those are
// errors as values (base/result.h). DCHECK is for hot loops and is on in debug builds only.
#pragma once

#include <cstdio>
#include <cstdlib>

#define LODE_CHECK(condition)                                                              \
  do {                                                                                     \
    if (!(condition)) [[unlikely]] {                                                       \
      std::fprintf(stderr, "lode: broken invariant: %s\n  at %s:%d\nThis is a bug in Lode.\n", \
                   #condition, __FILE__, __LINE__);                                        \
      std::abort();                                                                        \
    }                                                                                      \
  } while (false)

#ifdef NDEBUG
#define LODE_DCHECK(condition) \
  do {                         \
  } while (false)
#else
#define LODE_DCHECK(condition) LODE_CHECK(condition)
#endif
