// For plain loops that become vectors.
#pragma once

// A function and all that it calls, compiled for wider vectors as well and chosen when the program
// starts. Nothing is contracted or reassociated, so all copies give the same bits. Sanitizers are
// not ready when the choice is made.
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define LODE_WIDER_COPIES \
  __attribute__((flatten, target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define LODE_WIDER_COPIES
#endif
