// The loops of kernels/peaks.h by instruction set; each is in a file compiled for it.
// `rounds` rounds, or `bytes` bytes; returns as in kernels/peaks.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lode::kernels {

// Independent chains in every loop: enough for two ports and a latency of six, few enough for
// sixteen registers.
inline constexpr int kPeakChains = 12;
// How far reads ask ahead: a page, about what memory takes to answer at full speed.
inline constexpr size_t kReadAhead = 4096;

#if defined(__x86_64__)
double PeakF32Avx512(int64_t rounds);
double PeakBF16Avx512(int64_t rounds);
double PeakInt8Avx512(int64_t rounds);
double PeakBF16Avx512Dot(int64_t rounds);
double PeakInt8Avx512Dot(int64_t rounds);
uint64_t ReadAllAvx512(const std::byte* data, size_t bytes);

double PeakF32Avx2(int64_t rounds);
double PeakBF16Avx2(int64_t rounds);
double PeakInt8Avx2(int64_t rounds);
double PeakInt8AvxVnni(int64_t rounds);
uint64_t ReadAllAvx2(const std::byte* data, size_t bytes);
#endif

// Plain C++ with 16-byte vectors, which every machine has in some form; and arm64.
double PeakF32Plain(int64_t rounds);
double PeakBF16Plain(int64_t rounds);
double PeakInt8Plain(int64_t rounds);
uint64_t ReadAllPlain(const std::byte* data, size_t bytes);
#if defined(__aarch64__)
double PeakInt8NeonDot(int64_t rounds);
#endif

}  // namespace lode::kernels
