#include "formats/safetensors.h"

#include <algorithm>
#include <limits>
#include <unordered_set>

#include "base/json.h"
#include "base/text.h"
#include "tensor/scalar.h"

namespace lode::formats {
namespace {

using tensor::TensorInfo;

constexpr size_t kDimensionsMax = 16;  // no model has more than a handful
const char* const kDamaged = "the file is damaged or incomplete; download it again";

Error Damaged(const std::string& message) { return Error(Code::kBadInput, message, kDamaged); }

// Bits of one element, for the names that the format defines; 0 for a name that it does not.
uint64_t ElementBits(std::string_view dtype) {
  static constexpr std::pair<std::string_view, uint64_t> kBits[] = {
      {"BOOL", 8},    {"F4", 4},       {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},
      {"I8", 8},      {"F8_E5M2", 8},  {"F8_E4M3", 8}, {"F8_E8M0", 8},     {"F8_E4M3FNUZ", 8},
      {"I16", 16},    {"U16", 16},     {"F16", 16},    {"F8_E5M2FNUZ", 8}, {"BF16", 16},
      {"I32", 32},    {"U32", 32},     {"F32", 32},    {"C64", 64},        {"F64", 64},
      {"I64", 64},    {"U64", 64}};
  for (const auto& [name, bits] : kBits) {
    if (name == dtype) return bits;
  }
  return 0;
}

// One tensor as its entry in the header says it.
struct Entry {
  std::string name;
  std::string dtype;
  tensor::Shape shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

// Walks the header. It keeps what a valid header can hold and stops at the first thing that cannot be
// in one, so its memory is bounded by the names and shapes themselves.
class HeaderVisitor final : public JsonVisitor {
 public:
  Result<void> StartObject() override {
    switch (place_) {
      case Place::kStart: place_ = Place::kRoot; return {};
      case Place::kRoot:
        if (key_ == "__metadata__") {
          place_ = Place::kMetadata;
        } else {
          place_ = Place::kTensor;
          entry_ = Entry{};
          entry_.name = key_;
          has_dtype_ = has_shape_ = has_offsets_ = false;
        }
        return {};
      default: return Unexpected("an object");
    }
  }

  Result<void> Key(std::string_view key) override {
    key_ = key;
    if (place_ == Place::kRoot && !names_.insert(key_).second) {
      return Damaged("the name " + Quote(key_) + " is there twice");
    }
    if (place_ == Place::kMetadata && !metadata_names_.insert(key_).second) {
      return Damaged("the metadata key " + Quote(key_) + " is there twice");
    }
    return {};
  }

  Result<void> EndObject() override {
    if (place_ == Place::kTensor) {
      if (!has_dtype_ || !has_shape_ || !has_offsets_) {
        return Here(Damaged("its entry lacks dtype, shape or data_offsets"));
      }
      entries_.push_back(std::move(entry_));
      place_ = Place::kRoot;
    } else if (place_ == Place::kMetadata) {
      place_ = Place::kRoot;
    } else {
      place_ = Place::kEnd;
    }
    return {};
  }

  Result<void> StartArray() override {
    if (place_ == Place::kTensor && key_ == "shape" && !has_shape_) {
      has_shape_ = true;
      place_ = Place::kShape;
      return {};
    }
    if (place_ == Place::kTensor && key_ == "data_offsets" && !has_offsets_) {
      has_offsets_ = true;
      offsets_ = 0;
      place_ = Place::kOffsets;
      return {};
    }
    return Unexpected("an array");
  }

  Result<void> EndArray() override {
    if (place_ == Place::kOffsets && offsets_ != 2) {
      return Here(Damaged("data_offsets has not two numbers"));
    }
    place_ = Place::kTensor;
    return {};
  }

  Result<void> Value(Json&& value) override {
    switch (place_) {
      case Place::kMetadata:
        if (!value.is_string()) return Damaged("metadata " + Quote(key_) + " is not a string");
        metadata_.emplace_back(key_, value.get<std::string>());
        return {};
      case Place::kTensor:
        if (key_ != "dtype" || has_dtype_ || !value.is_string()) return Unexpected("a value");
        has_dtype_ = true;
        entry_.dtype = value.get<std::string>();
        return {};
      case Place::kShape:
      case Place::kOffsets: {
        if (!value.is_number_unsigned()) return Here(Damaged("a size is no whole number"));
        const uint64_t number = value.get<uint64_t>();
        if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
          return Here(Damaged("a size is too large"));
        }
        if (place_ == Place::kShape) {
          if (entry_.shape.size() == kDimensionsMax) return Here(Damaged("too many dimensions"));
          entry_.shape.push_back(static_cast<int64_t>(number));
        } else {
          if (offsets_ == 2) return Here(Damaged("data_offsets has not two numbers"));
          (offsets_ == 0 ? entry_.begin : entry_.end) = number;
          ++offsets_;
        }
        return {};
      }
      default: return Unexpected("a value");
    }
  }

  std::vector<Entry> TakeEntries() { return std::move(entries_); }
  std::vector<std::pair<std::string, std::string>> TakeMetadata() { return std::move(metadata_); }

 private:
  enum class Place { kStart, kRoot, kTensor, kShape, kOffsets, kMetadata, kEnd };

  Error Here(Error error) const { return error.AddContext("tensor " + Quote(entry_.name)); }
  Error Unexpected(const char* what) const {
    return Damaged(std::string("its header has ") + what + " at " + Quote(key_) +
                   " where none belongs");
  }

  Place place_ = Place::kStart;
  std::string key_;
  Entry entry_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  int offsets_ = 0;
  std::vector<Entry> entries_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::unordered_set<std::string> names_, metadata_names_;
};

// Size of the tensor against its shape. An unknown dtype has no size to compare with.
Result<void> CheckSize(const Entry& entry) {
  if (entry.end < entry.begin) return Damaged("its data ends before it begins");
  const uint64_t bits = ElementBits(entry.dtype);
  int64_t elements = 0;
  uint64_t total_bits = 0;
  if (!tensor::CountElements(entry.shape, &elements)) {
    return Damaged("its shape " + tensor::ToString(entry.shape) + " is too large");
  }
  if (bits == 0) return {};
  if (__builtin_mul_overflow(static_cast<uint64_t>(elements), bits, &total_bits)) {
    return Damaged("its shape " + tensor::ToString(entry.shape) + " is too large");
  }
  if (total_bits % 8 != 0) return Damaged("its data is not whole bytes");
  if (total_bits / 8 != entry.end - entry.begin) {
    return Damaged("its shape " + tensor::ToString(entry.shape) + " of " + entry.dtype +
                   " takes " + WithThousands(total_bits / 8) + " bytes, but it has " +
                   WithThousands(entry.end - entry.begin));
  }
  return {};
}

Result<SafetensorsFile> Parse(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.size() < 8) return Damaged("the file is too short for safetensors");
  const uint64_t header_bytes = tensor::LoadUnaligned<uint64_t>(bytes.data());
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()),
                               std::min<size_t>(bytes.size(), 64));
  if (StartsWith(start, "version https://git-lfs")) {
    return Error(Code::kBadInput, "this is a Git LFS pointer, not the model itself",
                 "fetch it with `git lfs pull` or `lode pull`");
  }
  if (header_bytes > kSafetensorsHeaderBytesMax) {
    return Error(Code::kBadInput, "this is not a safetensors file: its header would be larger than " +
                                      WithThousands(kSafetensorsHeaderBytesMax) + " bytes",
                 "check the path, or download it again");
  }
  if (header_bytes > bytes.size() - 8) return Damaged("the file ends inside its header");
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes);
  if (!StartsWith(header, "{")) {
    return Error(Code::kBadInput, "this is not a safetensors file: its header is no JSON object",
                 "check the path, or download it again");
  }
  HeaderVisitor visitor;
  LODE_TRY(VisitJson(header, {.depth_max = 4}, &visitor));

  std::vector<Entry> entries = visitor.TakeEntries();
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  const uint64_t data_start = 8 + header_bytes;
  const uint64_t data_bytes = bytes.size() - data_start;
  uint64_t expected = 0;
  SafetensorsFile file;
  file.metadata = visitor.TakeMetadata();
  file.tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    Result<void> sized = CheckSize(entry);
    if (!sized.ok()) return std::move(sized.error().AddContext("tensor " + Quote(entry.name)));
    if (entry.begin != expected) {
      return Damaged("tensor " + Quote(entry.name) +
                     (entry.begin < expected ? ": it overlaps the tensor before it"
                                             : ": there is a hole before it"));
    }
    expected = entry.end;
    if (entry.end > data_bytes) {
      return Damaged("tensor " + Quote(entry.name) + ": its " +
                     WithThousands(entry.end - entry.begin) +
                     " bytes end behind the end of the file (" + WithThousands(bytes.size()) +
                     " bytes)");
    }
    const Result<tensor::DType> dtype = tensor::DTypeFromSafetensors(entry.dtype);
    if (!dtype.ok()) {
      file.unreadable.emplace_back(std::move(entry.name), std::move(entry.dtype));
      continue;
    }
    TensorInfo info;
    info.name = std::move(entry.name);
    info.dtype = *dtype;
    info.shape = std::move(entry.shape);
    info.bytes = entry.end - entry.begin;
    info.file = name;
    info.file_offset = data_start + entry.begin;
    file.tensors.push_back(std::move(info));
  }
  if (expected != data_bytes) {
    return Damaged("its tensors take " + WithThousands(expected) + " bytes, but the file has " +
                   WithThousands(data_bytes) + " of data");
  }
  return file;
}

}  // namespace

Result<SafetensorsFile> ParseSafetensors(std::span<const std::byte> bytes,
                                         const std::string& name) {
  Result<SafetensorsFile> file = Parse(bytes, name);
  if (!file.ok()) file.error().AddContext(Quote(name, 300));
  return file;
}

}  // namespace lode::formats
