// Pages and slots, taken once at the start and handed out from then on; a sequence that ends gives its
// own back. Sizes come from model::StateLayout, so the plan that is printed before loading is exact.
// Threads: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model/state.h"

namespace lode::runtime {

class StatePool {
 public:
  // Room for `pages` pages and `slots` slots (and as many MTP pages as pages, if the model has a head).
  StatePool(const model::StateLayout& layout, int64_t pages, int64_t slots);
  ~StatePool();
  StatePool(const StatePool&) = delete;
  StatePool& operator=(const StatePool&) = delete;

  static uint64_t Bytes(const model::StateLayout& layout, int64_t pages, int64_t slots);

  // nullptr when there is none left. A slot comes zeroed: the state of an empty sequence.
  std::byte* TakePage();
  std::byte* TakeMtpPage();
  std::byte* TakeSlot();
  void GivePage(std::byte* page) { free_pages_.push_back(page); }
  void GiveMtpPage(std::byte* page) { free_mtp_pages_.push_back(page); }
  void GiveSlot(std::byte* slot) { free_slots_.push_back(slot); }

  int64_t free_pages() const { return static_cast<int64_t>(free_pages_.size()); }
  int64_t free_slots() const { return static_cast<int64_t>(free_slots_.size()); }

 private:
  uint64_t slot_bytes_;
  uint64_t bytes_;
  std::byte* memory_ = nullptr;
  std::vector<std::byte*> free_pages_, free_mtp_pages_, free_slots_;
};

}  // namespace lode::runtime
