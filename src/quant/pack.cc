#include "quant/pack.h"

#include <map>

#include "base/file.h"
#include "base/text.h"
#include "base/thread_pool.h"
#include "formats/gguf_writer.h"
#include "kernels/panel.h"
#include "model/bind.h"
#include "model/config.h"
#include "model/tensors.h"

namespace lode::quant {
namespace {

using kernels::Weight;
using tensor::TensorInfo;

uint64_t Round64(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

// A tensor's matrices as they lie in the source: one, or a stack.
std::vector<Weight> MatricesOf(const formats::GgufFile& source, const TensorInfo& info) {
  const auto view = source.View(info);
  const bool stack = info.shape.size() == 3;
  const int64_t count = stack ? info.shape[0] : 1;
  std::vector<Weight> weights;
  for (int64_t e = 0; e < count; ++e) {
    Weight w;
    w.dtype = info.dtype;
    w.rows = info.shape[stack ? 1 : 0];
    w.cols = info.shape.back();
    w.row_bytes = static_cast<int64_t>(view.bytes.size()) / (count * w.rows);
    w.data = view.bytes.data() + e * w.rows * w.row_bytes;
    weights.push_back(w);
  }
  return weights;
}

// Each matrix begins at a multiple of 64 bytes.
uint64_t EachBytes(const Weight& w) {
  return Round64(static_cast<uint64_t>(kernels::PackedBytes(w)));
}

std::string ShapeText(const tensor::Shape& shape) {
  std::vector<std::string> sizes;
  for (const int64_t size : shape) sizes.push_back(std::to_string(size));
  return Join(sizes, ",");
}

// Which tensors are packed: matrices that are multiplied and have a packed form.
Result<std::map<std::string, bool>> PackableNames(const formats::GgufFile& source) {
  LODE_ASSIGN(const model::ModelSpec spec, model::ReadSpec(source));
  std::map<std::string, bool> names;
  for (const model::TensorSlot& slot : model::ListTensors(spec)) {
    if (slot.row->kind != model::Kind::kMatrix || slot.row->role == model::Role::kEmbedding)
      continue;
    const TensorInfo* info = source.Find(slot.gguf);
    if (info == nullptr || info->shape.size() < 2 || info->bytes == 0) continue;
    const Weight w = MatricesOf(source, *info).front();
    names[slot.gguf] = kernels::PanelFormatOf(w) != kernels::PanelFormat::kNone;
  }
  return names;
}

}  // namespace

Result<void> CheckNotPacked(const tensor::TensorSource& source) {
  for (const TensorInfo& info : source.tensors()) {
    if (!info.packed) continue;
    return Error(Code::kUnsupported,
                 source.path() + ": is packed for running, its weights can only be multiplied",
                 "take the file that it was packed from");
  }
  return {};
}

Result<PackReport> Pack(const formats::GgufFile& source, const std::string& out, bool force,
                        int threads,
                        const std::function<bool(uint64_t done, uint64_t all)>& progress) {
  LODE_TRY(CheckNotPacked(source));
  if (FileExists(out) && !force) {
    return Error(Code::kBadInput, Quote(out, 300) + " is there already", "--force replaces it");
  }
  LODE_ASSIGN(const auto packable, PackableNames(source));
  const auto is_packed = [&](const TensorInfo& info) {
    const auto found = packable.find(info.name);
    return found != packable.end() && found->second;
  };
  formats::GgufWriter writer;
  for (const formats::GgufEntry& entry : source.entries()) {
    if (!StartsWith(entry.key, "split.")) writer.Set(entry);
  }
  writer.SetAlignment(64);
  PackReport report;
  std::vector<std::string> names, types, shapes;
  uint64_t all = 0;
  for (const TensorInfo& info : source.tensors()) {
    if (is_packed(info)) {
      const std::vector<Weight> weights = MatricesOf(source, info);
      const uint64_t bytes = weights.size() * EachBytes(weights.front());
      writer.AddTensor(info.name, tensor::DType::kI8, {static_cast<int64_t>(bytes)});
      names.push_back(info.name);
      types.emplace_back(tensor::Name(info.dtype));
      shapes.push_back(ShapeText(info.shape));
      ++report.packed;
    } else {
      writer.AddTensor(info.name, info.dtype, info.shape);
      ++report.kept;
    }
    all += info.bytes;
  }
  writer.SetStrings(formats::kPackedNames, names);
  writer.SetStrings(formats::kPackedTypes, types);
  writer.SetStrings(formats::kPackedShapes, shapes);
  LODE_TRY(writer.Begin(out));
  ThreadPool pool(threads, Pin::kOff);
  std::vector<std::byte> buffer;
  uint64_t done = 0;
  for (const TensorInfo& info : source.tensors()) {
    if (!is_packed(info)) {
      LODE_TRY(writer.Write(source.View(info).bytes));
      done += info.bytes;
      continue;
    }
    for (const Weight& w : MatricesOf(source, info)) {
      buffer.assign(EachBytes(w), std::byte{0});
      const kernels::PanelFormat format = kernels::PanelFormatOf(w);
      const int64_t records = kernels::RecordsOf(w.cols);
      const int64_t panel_bytes = kernels::RecordsBytes(format, records);
      pool.ParallelFor(kernels::PanelsOf(w.rows), 8, [&](int64_t begin, int64_t end, int) {
        for (int64_t panel = begin; panel < end; ++panel) {
          kernels::PackRecords(w, format, panel, 0, records, buffer.data() + panel * panel_bytes);
        }
      });
      LODE_TRY(writer.Write(buffer));
      done += static_cast<uint64_t>(w.rows * w.row_bytes);
      if (progress && !progress(done, all)) return Error(Code::kCancelled, "stopped");
    }
  }
  LODE_TRY(writer.Finish());
  LODE_ASSIGN(const auto written, formats::GgufFile::Open(out));
  for (const TensorInfo& info : written->tensors()) report.bytes += info.bytes;
  return report;
}

}  // namespace lode::quant
