// Packs a model's matrices into panels (kernels/panel.h) while it runs: the file is used as it lies
// from the first token on, and each finished matrix takes its place between two layers. No result
// can change. The file's pages of a finished matrix are given back, so that it never needs memory
// twice.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "model/bind.h"

namespace lode::model {

// Life: the model outlives it; what it has packed belongs to the model and stays. Threads: one
// owner calls everything; the work is on a thread of its own.
class Packer {
 public:
  // Starts to pack what has a packed form and is not packed yet: the head, then what every token
  // multiplies, then the experts.
  explicit Packer(Model* model);
  // Stops after the matrix at hand.
  ~Packer();
  Packer(const Packer&) = delete;
  Packer& operator=(const Packer&) = delete;

  // Lets the model use what has been finished since the last call. To be called while no kernel
  // runs. True when everything is packed.
  bool Adopt();
  // Waits for the end, and adopts.
  void Finish();

  uint64_t bytes_total() const { return bytes_total_; }
  uint64_t bytes_done() const { return bytes_done_.load(std::memory_order_relaxed); }

  // Memory that packing the model takes, to the byte, and the bytes in the file that it replaces.
  struct Size {
    uint64_t packed = 0, replaced = 0;
  };
  static Size SizeOf(const Model& model);

 private:
  // A matrix, and where it is packed to when it is done.
  struct Item {
    Weight* weight;
    const std::byte* packed = nullptr;
  };
  void Work();
  bool PackGroup(const std::vector<Weight*>& group);
  bool PackWeight(const Weight& w, std::byte* out);

  Model* model_;
  std::vector<std::vector<Weight*>> groups_;  // that share a piece of memory
  std::vector<Item> items_;                   // all of them, in order
  uint64_t bytes_total_ = 0;
  std::atomic<uint64_t> bytes_done_{0};
  std::atomic<size_t> done_{0};  // items that are packed
  std::atomic<bool> stop_{false};
  size_t adopted_ = 0;
  std::thread thread_;
};

// Every matrix that is multiplied, in the order above: what Packer packs. Of a layer's experts, all
// in one group.
std::vector<std::vector<Weight*>> MatricesToPack(Model* model);

// Maps in the pages of all tensors of a mapped source (but not of `but`), so that steps take no faults
// and memory is what the plan says. Best effort.
void PopulateFile(const tensor::TensorSource& source, const Weight* but = nullptr);

}  // namespace lode::model
