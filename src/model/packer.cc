#include "model/packer.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/thread_pool.h"
#include "kernels/panel.h"

namespace lode::model {
namespace {

constexpr uint64_t kHuge = uint64_t{2} << 20;  // a huge page

uint64_t Round64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

// What is taken from the system for so many bytes: huge pages where that wastes little.
uint64_t RoundPages(uint64_t bytes) {
  const uint64_t page = bytes >= kHuge ? kHuge : 4096;
  return (bytes + page - 1) / page * page;
}

bool CanPack(const Weight& w) {
  return !w.empty() && w.packed == nullptr &&
         kernels::PanelFormatOf(w) != kernels::PanelFormat::kNone;
}

// Block scales that a file keeps apart.
uint64_t ScaleBytesOf(const Weight& w) {
  return w.block_scales != nullptr ? static_cast<uint64_t>(w.rows * (w.cols / 16)) : 0;
}

uint64_t BytesOf(const Weight& w) {
  return static_cast<uint64_t>(w.rows * w.row_bytes) + ScaleBytesOf(w);
}

// Gives the whole pages of [begin, begin + bytes) of a mapped file back; they come again when read.
void DropPages(const std::byte* begin, uint64_t bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
  const uintptr_t last = reinterpret_cast<uintptr_t>(begin + bytes) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

void DropPages(const Weight& w) {
  DropPages(w.data, static_cast<uint64_t>(w.rows * w.row_bytes));
  if (w.block_scales == nullptr) return;
  DropPages(reinterpret_cast<const std::byte*>(w.block_scales), ScaleBytesOf(w));
}

}  // namespace

void PopulateFile(const tensor::TensorSource& source, const Weight* but) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  for (const tensor::TensorInfo& info : source.tensors()) {
    const auto bytes = source.View(info).bytes;
    if (bytes.empty() || (but != nullptr && bytes.data() == but->data)) continue;
    const auto begin = reinterpret_cast<uintptr_t>(bytes.data()) / page * page;
    const auto end = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size());
#ifdef MADV_POPULATE_READ
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_READ);  // best effort
#else
    ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
#endif
  }
}

std::vector<std::vector<Weight*>> MatricesToPack(Model* model) {
  std::vector<std::vector<Weight*>> groups;
  const auto add = [&](std::vector<Weight*> group) {
    std::erase_if(group, [](const Weight* w) { return !CanPack(*w); });
    if (!group.empty()) groups.push_back(std::move(group));
  };
  const auto dense = [&](Layer& layer) {
    for (Weight* w : {&layer.mamba2.in, &layer.mamba2.out, &layer.attention.query,
                      &layer.attention.key, &layer.attention.value, &layer.attention.out,
                      &layer.mlp.up, &layer.mlp.down, &layer.moe.latent_down, &layer.moe.latent_up,
                      &layer.moe.shared_up, &layer.moe.shared_down}) {
      add({w});
    }
    // Its inputs are never rounded, so other forms are of no use to it.
    Weight& router = layer.moe.router;
    if (!router.empty() && kernels::TakesFloats(kernels::PanelFormatOf(router))) add({&router});
  };
  const auto experts = [&](Layer& layer) {
    for (std::vector<Weight>* stack : {&layer.moe.up, &layer.moe.down}) {
      std::vector<Weight*> group;
      for (Weight& w : *stack) group.push_back(&w);
      add(group);
    }
  };
  add({&model->head});
  for (Layer& layer : model->layers) dense(layer);
  for (Layer& layer : model->layers) experts(layer);
  add({&model->mtp.projection});
  for (Layer& layer : model->mtp.layers) dense(layer);
  for (Layer& layer : model->mtp.layers) experts(layer);
  return groups;
}

Packer::Size Packer::SizeOf(const Model& model) {
  Size size;
  for (const auto& group : MatricesToPack(const_cast<Model*>(&model))) {  // only looked at
    uint64_t bytes = 0;
    for (const Weight* w : group) {
      bytes += Round64(static_cast<uint64_t>(kernels::PackedBytes(*w)));
      size.replaced += BytesOf(*w);
    }
    size.packed += RoundPages(bytes);
  }
  return size;
}

Packer::Packer(Model* model) : model_(model), groups_(MatricesToPack(model)) {
  for (const std::vector<Weight*>& group : groups_) {
    for (Weight* w : group) {
      bytes_total_ += BytesOf(*w);
      items_.push_back({w});
    }
  }
  thread_ = std::thread([this] { Work(); });
}

Packer::~Packer() {
  stop_.store(true);
  if (thread_.joinable()) thread_.join();
}

void Packer::Work() {
  UseProcessAffinity();  // not the one core that the engine's owner may be bound to
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (!PackGroup(groups_[i])) break;
    // After the first and largest matrix: before it, that one would be in memory twice beside all
    // else.
    if (i == 0 && model_->source->mapped()) PopulateFile(*model_->source, groups_[0].front());
  }
}

bool Packer::PackWeight(const Weight& w, std::byte* out) {
  const kernels::PanelFormat format = kernels::PanelFormatOf(w);
  const int64_t records = kernels::RecordsOf(w.cols);
  const int64_t panel_bytes = kernels::RecordsBytes(format, records);
  for (int64_t panel = 0; panel < kernels::PanelsOf(w.rows); ++panel) {
    if (stop_.load(std::memory_order_relaxed)) return false;
    kernels::PackRecords(w, format, panel, 0, records, out + panel * panel_bytes);
  }
  return true;
}

// False: told to stop, or no memory; then the rest stays as it lies.
bool Packer::PackGroup(const std::vector<Weight*>& group) {
  uint64_t bytes = 0;
  for (const Weight* w : group) {
    bytes += Round64(static_cast<uint64_t>(kernels::PackedBytes(*w)));
  }
  auto memory = PackedMemory::Take(RoundPages(bytes));
  if (memory == nullptr) return false;
  std::byte* at = memory->data();
  {
    const std::lock_guard lock(model_->packed_mutex);
    model_->packed.push_back(std::move(memory));
  }
  for (const Weight* w : group) {
    if (!PackWeight(*w, at)) return false;
    const size_t item = done_.load(std::memory_order_relaxed);
    items_[item].packed = at;
    at += Round64(static_cast<uint64_t>(kernels::PackedBytes(*w)));
    bytes_done_.fetch_add(BytesOf(*w), std::memory_order_relaxed);
    // Steps may still read these pages as they lie: then they come again, from the page cache.
    if (model_->source->mapped()) DropPages(*w);
    done_.store(item + 1, std::memory_order_release);
  }
  return true;
}

bool Packer::Adopt() {
  const size_t done = done_.load(std::memory_order_acquire);
  for (; adopted_ < done; ++adopted_) {
    const Item& item = items_[adopted_];
    item.weight->packed = item.packed;
    // What steps have read since it was packed.
    if (model_->source->mapped()) DropPages(*item.weight);
  }
  return adopted_ == items_.size();
}

void Packer::Finish() {
  if (thread_.joinable()) thread_.join();
  Adopt();
}

std::unique_ptr<PackedMemory> PackedMemory::Take(uint64_t bytes) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  ::madvise(data, bytes, MADV_HUGEPAGE);  // best effort
  auto memory = std::unique_ptr<PackedMemory>(new PackedMemory());
  memory->data_ = static_cast<std::byte*>(data);
  memory->bytes_ = bytes;
  return memory;
}

PackedMemory::~PackedMemory() { ::munmap(data_, bytes_); }

}  // namespace lode::model
