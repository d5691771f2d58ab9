// The machine's limits as benchmarks measure them beside every figure: how fast memory and caches
// are read and how fast products run, on the threads of a pool. They drift (clocks, other tenants
// of the memory), so a share of them means something only when both were measured within the same
// second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/json.h"
#include "base/thread_pool.h"
#include "kernels/peaks.h"

namespace lode::api {

// Bytes and operations a second.
struct Limits {
  double read = 0.0;
  double f32 = 0.0, bf16 = 0.0, int8 = 0.0;
};

class LimitsMeter {
 public:
  // Takes memory for plain reads: more than 1 GiB, or a quarter of what is left where that is less.
  // The threads of `pool` touch it first, each its part.
  explicit LimitsMeter(ThreadPool* pool);
  ~LimitsMeter();
  LimitsMeter(const LimitsMeter&) = delete;
  LimitsMeter& operator=(const LimitsMeter&) = delete;

  // One pass over that memory, bytes a second.
  double Read(ThreadPool* pool);
  uint64_t read_bytes() const { return bytes_; }
  // All of them with the instruction set in use: tens of milliseconds.
  Limits Measure(ThreadPool* pool);

  // Reads a part of the memory that fits a cache, again and again, each thread its own.
  double ReadCached(ThreadPool* pool, size_t bytes_each);

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// Operations a second on all threads of the pool, by their CPU time: a property of the cores.
double MeasurePeak(ThreadPool* pool, kernels::Isa isa, kernels::Peak peak);

// Sizes of the data caches of the first CPU we may use, by level from 1; 0: unknown. `root` as in
// base/topology.h.
std::vector<uint64_t> CacheBytes(const std::string& root = "");

// Everything, for `lode bench --machine`: reads with 1 to `threads` threads, caches, and every
// product of every instruction set this machine has.
Json MeasureMachine(ThreadPool* pool);

}  // namespace lode::api
