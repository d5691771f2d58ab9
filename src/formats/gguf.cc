#include "formats/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "base/text.h"
#include "base/utf8.h"
#include "tensor/scalar.h"

namespace lode::formats {
namespace {

using tensor::DType;
using tensor::LoadUnaligned;
using tensor::TensorInfo;

constexpr uint64_t kKeyBytesMax = 65535;        // the format's own limit
constexpr uint64_t kTensorNameBytesMax = 1024;  // the reference stops at 63; names of others may not
constexpr uint32_t kDimensionsMax = 4;
constexpr uint64_t kEntryBytesMin = 8 + 1 + 4 + 1;    // key length, a key, type, a value
constexpr uint64_t kTensorBytesMin = 8 + 1 + 4 + 4 + 8;  // name length, a name, dims, type, offset
constexpr size_t kListedMax = 100;              // missing shards that one message names
const char* const kDamaged = "the file is damaged or incomplete; download it again";

// Reads forward through the header; never past its end.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint64_t at() const { return at_; }
  uint64_t remaining() const { return bytes_.size() - at_; }

  bool Take(uint64_t count, std::span<const std::byte>* taken) {
    if (count > remaining()) return false;
    *taken = bytes_.subspan(at_, count);
    at_ += count;
    return true;
  }
  template <typename T>
  bool Read(T* value) {
    std::span<const std::byte> taken;
    if (!Take(sizeof(T), &taken)) return false;
    *value = LoadUnaligned<T>(taken.data());
    return true;
  }
  bool ReadString(std::string_view* text) {
    uint64_t length = 0;
    std::span<const std::byte> taken;
    if (!Read(&length) || !Take(length, &taken)) return false;
    *text = {reinterpret_cast<const char*>(taken.data()), taken.size()};
    return true;
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t at_ = 0;
};

bool IsInteger(GgufType type) {
  switch (type) {
    case GgufType::kU8: case GgufType::kI8: case GgufType::kU16: case GgufType::kI16:
    case GgufType::kU32: case GgufType::kI32: case GgufType::kU64: case GgufType::kI64:
      return true;
    default:
      return false;
  }
}

bool IsFloat(GgufType type) { return type == GgufType::kF32 || type == GgufType::kF64; }

// Integers and bools; false when a u64 is beyond int64.
bool LoadInteger(GgufType type, const std::byte* at, int64_t* value) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kBool: *value = LoadUnaligned<uint8_t>(at); return true;
    case GgufType::kI8: *value = LoadUnaligned<int8_t>(at); return true;
    case GgufType::kU16: *value = LoadUnaligned<uint16_t>(at); return true;
    case GgufType::kI16: *value = LoadUnaligned<int16_t>(at); return true;
    case GgufType::kU32: *value = LoadUnaligned<uint32_t>(at); return true;
    case GgufType::kI32: *value = LoadUnaligned<int32_t>(at); return true;
    case GgufType::kI64: *value = LoadUnaligned<int64_t>(at); return true;
    case GgufType::kU64: {
      const uint64_t wide = LoadUnaligned<uint64_t>(at);
      *value = static_cast<int64_t>(wide);
      return wide <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    }
    default: return false;
  }
}

bool LoadFloat(GgufType type, const std::byte* at, double* value) {
  if (type == GgufType::kF32) {
    *value = LoadUnaligned<float>(at);
    return true;
  }
  if (type == GgufType::kF64) {
    *value = LoadUnaligned<double>(at);
    return true;
  }
  if (type == GgufType::kU64) {
    *value = static_cast<double>(LoadUnaligned<uint64_t>(at));
    return true;
  }
  int64_t integer = 0;
  if (!IsInteger(type) || !LoadInteger(type, at, &integer)) return false;
  *value = static_cast<double>(integer);
  return true;
}

Error Damaged(const std::string& message) { return Error(Code::kBadInput, message, kDamaged); }

// What a file is that is no GGUF, as far as its first bytes tell.
Error NotGguf(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 64));
  if (text.empty()) return Damaged("the file is empty");
  if (StartsWith(text, "version https://git-lfs")) {
    return Error(Code::kBadInput, "this is a Git LFS pointer, not the model itself",
                 "fetch it with `git lfs pull` or `lode pull`");
  }
  if (StartsWith(text, "<")) {
    return Error(Code::kBadInput, "this is a web page, not a GGUF file", "download it again");
  }
  if (StartsWith(text, "PK\x03\x04")) {
    return Error(Code::kUnsupported, "this is a zip archive or a PyTorch pickle, not a GGUF file",
                 "take a GGUF or safetensors file of the model");
  }
  return Error(Code::kBadInput, "this is not a GGUF file: it does not begin with \"GGUF\"",
               "check the path, or download it again");
}

Result<void> ReadValue(Cursor* cursor, GgufEntry* entry) {
  uint32_t type = 0;
  if (!cursor->Read(&type)) return Damaged("the file ends inside it");
  if (type > static_cast<uint32_t>(GgufType::kF64)) {
    return Damaged(Format("unknown value type %u", type));
  }
  entry->type = static_cast<GgufType>(type);
  if (entry->type == GgufType::kString) {
    std::string_view text;
    if (!cursor->ReadString(&text)) return Damaged("its string ends behind the end of the file");
    entry->bytes = std::as_bytes(std::span(text));
    return {};
  }
  entry->element = entry->type;
  if (entry->type == GgufType::kArray) {
    uint32_t element = 0;
    if (!cursor->Read(&element) || !cursor->Read(&entry->count)) {
      return Damaged("the file ends inside it");
    }
    if (element > static_cast<uint32_t>(GgufType::kF64)) {
      return Damaged(Format("unknown array element type %u", element));
    }
    entry->element = static_cast<GgufType>(element);
    if (entry->element == GgufType::kArray) {
      return Error(Code::kUnsupported, "arrays of arrays are not read");
    }
  }
  if (entry->element == GgufType::kString) {
    // Every string has a length of 8 bytes: a count beyond that is a lie, whatever follows.
    if (entry->count > cursor->remaining() / 8) {
      return Damaged(Format("an array of %llu strings does not fit into the file",
                            static_cast<unsigned long long>(entry->count)));
    }
    Cursor strings = *cursor;
    std::string_view text;
    for (uint64_t i = 0; i < entry->count; ++i) {
      if (!strings.ReadString(&text)) {
        return Damaged(Format("its string %llu ends behind the end of the file",
                              static_cast<unsigned long long>(i)));
      }
    }
    cursor->Take(strings.at() - cursor->at(), &entry->bytes);
    return {};
  }
  const uint64_t size = static_cast<uint64_t>(FixedBytes(entry->element));
  if (entry->count > cursor->remaining() / size) {
    return Damaged("its value ends behind the end of the file");
  }
  cursor->Take(entry->count * size, &entry->bytes);
  if (entry->element == GgufType::kBool) {
    for (const std::byte value : entry->bytes) {
      if (std::to_integer<uint8_t>(value) > 1) return Damaged("a bool is neither 0 nor 1");
    }
  }
  return {};
}

bool IsPlainKey(std::string_view key) {
  return !key.empty() && key.size() <= kKeyBytesMax &&
         std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 0x7F; });
}

// What an entry is, for messages: "an array of strings", "a string", "a number (u32)".
std::string Describe(const GgufEntry& entry) {
  if (entry.type == GgufType::kArray) return std::string("an array of ") + Name(entry.element);
  return Name(entry.type);
}

}  // namespace

const char* Name(GgufType type) {
  switch (type) {
    case GgufType::kU8: return "u8";
    case GgufType::kI8: return "i8";
    case GgufType::kU16: return "u16";
    case GgufType::kI16: return "i16";
    case GgufType::kU32: return "u32";
    case GgufType::kI32: return "i32";
    case GgufType::kF32: return "f32";
    case GgufType::kBool: return "bool";
    case GgufType::kString: return "string";
    case GgufType::kArray: return "array";
    case GgufType::kU64: return "u64";
    case GgufType::kI64: return "i64";
    case GgufType::kF64: return "f64";
  }
  return "?";
}

int FixedBytes(GgufType type) {
  switch (type) {
    case GgufType::kU8: case GgufType::kI8: case GgufType::kBool: return 1;
    case GgufType::kU16: case GgufType::kI16: return 2;
    case GgufType::kU32: case GgufType::kI32: case GgufType::kF32: return 4;
    case GgufType::kU64: case GgufType::kI64: case GgufType::kF64: return 8;
    case GgufType::kString: case GgufType::kArray: return 0;
  }
  return 0;
}

// One file, parsed and checked by itself.
struct GgufFile::Shard {
  std::string name;  // of the file, for messages
  std::span<const std::byte> bytes;
  uint32_t version = 0;
  uint64_t alignment = 32;
  std::vector<GgufEntry> entries;
  std::unordered_map<std::string_view, size_t> entry_index;
  std::vector<TensorInfo> tensors;
  std::vector<std::string_view> tensor_names;  // in the map
  // Split files; absent otherwise.
  std::optional<int64_t> split_no, split_count, split_tensors;

  static Result<Shard> Parse(std::span<const std::byte> bytes, const std::string& name);

 private:
  Result<void> ParseHeader(Cursor* cursor, uint64_t* tensor_count, uint64_t* entry_count);
  Result<void> ParseEntries(Cursor* cursor, uint64_t count);
  Result<void> ParseTensors(Cursor* cursor, uint64_t count);
  Result<void> ParseTensor(Cursor* cursor, TensorInfo* info);
  Result<void> PlaceTensors(uint64_t data_start);
  Result<void> ReadSplitKey(std::string_view key, std::optional<int64_t>* value) const;
};

Result<GgufFile::Shard> GgufFile::Shard::Parse(std::span<const std::byte> bytes,
                                               const std::string& name) {
  Shard shard;
  shard.name = name;
  shard.bytes = bytes;
  const auto parse = [&]() -> Result<void> {
    Cursor cursor(bytes);
    uint64_t tensor_count = 0, entry_count = 0;
    LODE_TRY(shard.ParseHeader(&cursor, &tensor_count, &entry_count));
    LODE_TRY(shard.ParseEntries(&cursor, entry_count));
    LODE_TRY(shard.ParseTensors(&cursor, tensor_count));
    const uint64_t mask = shard.alignment - 1;
    return shard.PlaceTensors((cursor.at() + mask) & ~mask);  // both far below 2^63
  };
  Result<void> parsed = parse();
  if (!parsed.ok()) return std::move(parsed.error().AddContext(Quote(name, 300)));
  return shard;
}

Result<void> GgufFile::Shard::ParseHeader(Cursor* cursor, uint64_t* tensor_count,
                                          uint64_t* entry_count) {
  if (bytes.size() < 4 || std::memcmp(bytes.data(), "GGUF", 4) != 0) return NotGguf(bytes);
  uint32_t magic = 0;
  if (!cursor->Read(&magic) || !cursor->Read(&version)) {
    return Damaged("the file ends inside its header");
  }
  if (version != 0 && (version & 0xFFFF) == 0) {
    return Error(Code::kUnsupported, "this GGUF file is big-endian, which Lode does not read",
                 "take the little-endian file");
  }
  if (version != 2 && version != 3) {
    return Error(Code::kUnsupported, Format("GGUF version %u is not read, only 2 and 3", version),
                 "convert the model again with current tools");
  }
  if (!cursor->Read(tensor_count) || !cursor->Read(entry_count)) {
    return Damaged("the file ends inside its header");
  }
  if (*entry_count > cursor->remaining() / kEntryBytesMin) {
    return Damaged(Format("%llu metadata entries do not fit into the file",
                          static_cast<unsigned long long>(*entry_count)));
  }
  if (*tensor_count > cursor->remaining() / kTensorBytesMin) {
    return Damaged(Format("%llu tensors do not fit into the file",
                          static_cast<unsigned long long>(*tensor_count)));
  }
  return {};
}

Result<void> GgufFile::Shard::ParseEntries(Cursor* cursor, uint64_t count) {
  entries.reserve(count);
  entry_index.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    GgufEntry entry;
    if (!cursor->ReadString(&entry.key)) {
      return Damaged(Format("metadata key %llu ends behind the end of the file",
                            static_cast<unsigned long long>(i)));
    }
    if (!IsPlainKey(entry.key)) {
      return Damaged(Format("metadata key %llu is empty, too long or not plain ASCII",
                            static_cast<unsigned long long>(i)));
    }
    Result<void> value = ReadValue(cursor, &entry);
    if (!value.ok()) return std::move(value.error().AddContext("key " + Quote(entry.key)));
    if (!entry_index.emplace(entry.key, entries.size()).second) {
      return Damaged("the key " + Quote(entry.key) + " is there twice");
    }
    entries.push_back(entry);
  }
  const auto found = entry_index.find("general.alignment");
  if (found != entry_index.end()) {
    const GgufEntry& entry = entries[found->second];
    if (entry.type != GgufType::kU32) {
      return Damaged("key 'general.alignment' is " + Describe(entry) + ", not u32");
    }
    alignment = LoadUnaligned<uint32_t>(entry.bytes.data());
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
      return Damaged(Format("key 'general.alignment': %llu is no power of two",
                            static_cast<unsigned long long>(alignment)));
    }
  }
  LODE_TRY(ReadSplitKey("split.no", &split_no));
  LODE_TRY(ReadSplitKey("split.count", &split_count));
  return ReadSplitKey("split.tensors.count", &split_tensors);
}

Result<void> GgufFile::Shard::ReadSplitKey(std::string_view key,
                                           std::optional<int64_t>* value) const {
  const auto found = entry_index.find(key);
  if (found == entry_index.end()) return {};
  const GgufEntry& entry = entries[found->second];
  int64_t number = 0;
  if (!IsInteger(entry.type) || !LoadInteger(entry.type, entry.bytes.data(), &number) ||
      number < 0) {
    return Damaged("key " + Quote(key) + " is no count");
  }
  *value = number;
  return {};
}

Result<void> GgufFile::Shard::ParseTensor(Cursor* cursor, TensorInfo* info) {
  uint32_t dimensions = 0;
  if (!cursor->Read(&dimensions)) return Damaged("the file ends inside its entry");
  if (dimensions > kDimensionsMax) {
    return Damaged(Format("it has %u dimensions, more than %u", dimensions, kDimensionsMax));
  }
  info->shape.resize(dimensions);
  for (uint32_t i = 0; i < dimensions; ++i) {
    uint64_t size = 0;
    if (!cursor->Read(&size)) return Damaged("the file ends inside its entry");
    if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Damaged("a dimension is negative");
    }
    info->shape[dimensions - 1 - i] = static_cast<int64_t>(size);  // innermost first in the file
  }
  uint32_t type = 0;
  if (!cursor->Read(&type) || !cursor->Read(&info->file_offset)) {
    return Damaged("the file ends inside its entry");
  }
  LODE_ASSIGN(info->dtype, tensor::DTypeFromGgml(type));
  if (!tensor::CountBytes(info->dtype, info->shape, &info->bytes)) {
    return Damaged("its shape " + tensor::ToString(info->shape) + " is too large or not whole " +
                   tensor::Name(info->dtype) + " blocks");
  }
  return {};
}

Result<void> GgufFile::Shard::ParseTensors(Cursor* cursor, uint64_t count) {
  tensors.reserve(count);
  tensor_names.reserve(count);
  std::unordered_map<std::string_view, size_t> seen;
  seen.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    std::string_view tensor_name;
    if (!cursor->ReadString(&tensor_name) || tensor_name.empty() ||
        tensor_name.size() > kTensorNameBytesMax) {
      return Damaged(Format("the name of tensor %llu is empty, too long or ends behind the file",
                            static_cast<unsigned long long>(i)));
    }
    TensorInfo info;
    info.name = tensor_name;
    info.file = name;
    Result<void> parsed = ParseTensor(cursor, &info);
    if (!parsed.ok()) return std::move(parsed.error().AddContext("tensor " + Quote(tensor_name)));
    if (!seen.emplace(tensor_name, i).second) {
      return Damaged("tensor " + Quote(tensor_name) + " is there twice");
    }
    tensors.push_back(std::move(info));
    tensor_names.push_back(tensor_name);
  }
  return {};
}

// Turns offsets into positions in the file and checks that every tensor has bytes of its own.
Result<void> GgufFile::Shard::PlaceTensors(uint64_t data_start) {
  for (TensorInfo& info : tensors) {
    uint64_t begin = 0, end = 0;
    if (info.file_offset % alignment != 0) {
      return Damaged("tensor " + Quote(info.name) +
                     Format(": its offset %llu is no multiple of the alignment %llu",
                            static_cast<unsigned long long>(info.file_offset),
                            static_cast<unsigned long long>(alignment)));
    }
    if (__builtin_add_overflow(data_start, info.file_offset, &begin) ||
        __builtin_add_overflow(begin, info.bytes, &end) ||
        (info.bytes > 0 && end > bytes.size())) {
      return Damaged("tensor " + Quote(info.name) + ": its " + WithThousands(info.bytes) +
                     " bytes end behind the end of the file (" + WithThousands(bytes.size()) +
                     " bytes)");
    }
    info.file_offset = begin;
  }
  std::vector<size_t> order;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].bytes > 0) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [this](size_t a, size_t b) {
    return tensors[a].file_offset < tensors[b].file_offset;
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const TensorInfo& before = tensors[order[i - 1]];
    const TensorInfo& after = tensors[order[i]];
    if (before.file_offset + before.bytes > after.file_offset) {
      return Damaged("tensors " + Quote(before.name) + " and " + Quote(after.name) +
                     " overlap in the file");
    }
  }
  return {};
}

// --- the file as a whole ----------------------------------------------------------------------

namespace {

constexpr size_t kSplitSuffixBytes = 20;  // "-00001-of-00004.gguf"

std::string SplitName(const std::string& prefix, int64_t number, int64_t count) {
  return prefix + Format("-%05lld-of-%05lld.gguf", static_cast<long long>(number),
                         static_cast<long long>(count));
}

// "dir/model-00001-of-00004.gguf" -> "dir/model" when it is shard `number` of `count`.
bool SplitPrefix(const std::string& path, int64_t number, int64_t count, std::string* prefix) {
  if (path.size() <= kSplitSuffixBytes) return false;
  *prefix = path.substr(0, path.size() - kSplitSuffixBytes);
  return SplitName(*prefix, number, count) == path;
}

}  // namespace

Result<void> GgufFile::AddShard(Shard shard, bool first) {
  const int file = static_cast<int>(files_.size());
  files_.push_back(shard.bytes);
  if (first) {
    version_ = static_cast<int>(shard.version);
    alignment_ = shard.alignment;
    entries_ = std::move(shard.entries);
    entry_index_ = std::move(shard.entry_index);
  }
  tensors_.reserve(tensors_.size() + shard.tensors.size());
  for (size_t i = 0; i < shard.tensors.size(); ++i) {
    if (!tensor_index_.emplace(shard.tensor_names[i], tensors_.size()).second) {
      return Damaged(Quote(shard.name, 300) + ": tensor " + Quote(shard.tensor_names[i]) +
                     " is also in another shard");
    }
    tensors_.push_back(std::move(shard.tensors[i]));
    tensor_file_.push_back(file);
  }
  return {};
}

Result<std::unique_ptr<GgufFile>> GgufFile::Open(const std::string& path) {
  std::unique_ptr<GgufFile> file(new GgufFile);
  file->path_ = path;
  LODE_ASSIGN(auto map, MappedFile::Open(path));
  LODE_ASSIGN(Shard shard, Shard::Parse(map->bytes(), path));
  file->maps_.push_back(std::move(map));
  const int64_t count = shard.split_count.value_or(0);
  const int64_t number = shard.split_no.value_or(0);
  const std::optional<int64_t> tensors_expected = shard.split_tensors;
  std::string prefix;
  if (count > 1) {
    if (count > 65535 || number >= count) {
      return Damaged(Quote(path, 300) + Format(": it says that it is shard %lld of %lld",
                                               static_cast<long long>(number + 1),
                                               static_cast<long long>(count)));
    }
    const bool named = SplitPrefix(path, number + 1, count, &prefix);
    if (number != 0) {
      return Error(Code::kBadInput,
                   Quote(path, 300) + Format(" is shard %lld of %lld of a split model",
                                             static_cast<long long>(number + 1),
                                             static_cast<long long>(count)),
                   named ? "open the first one, " + Quote(SplitName(prefix, 1, count), 300)
                         : "open the first one");
    }
    if (!named) {
      return Error(Code::kBadInput,
                   Quote(path, 300) + Format(" is the first of %lld shards, but its name does not "
                                             "end in -00001-of-%05lld.gguf",
                                             static_cast<long long>(count),
                                             static_cast<long long>(count)),
                   "give the shards their original names again");
    }
    std::vector<std::string> missing;
    size_t missing_count = 0;
    for (int64_t i = 2; i <= count; ++i) {
      const std::string sibling = SplitName(prefix, i, count);
      if (FileExists(sibling)) continue;
      if (++missing_count <= kListedMax) missing.push_back(Quote(sibling, 300));
    }
    if (missing_count > 0) {
      std::string list = Join(missing, ", ");
      if (missing_count > kListedMax) list += Format(" and %zu more", missing_count - kListedMax);
      return Error(Code::kNotFound,
                   Quote(path, 300) + Format(": %zu of its %lld shards are missing: ",
                                             missing_count, static_cast<long long>(count)) + list,
                   "download them into the same folder");
    }
  }
  LODE_TRY(file->AddShard(std::move(shard), true));
  for (int64_t i = 2; i <= count; ++i) {
    const std::string sibling = SplitName(prefix, i, count);
    LODE_ASSIGN(auto sibling_map, MappedFile::Open(sibling));
    LODE_ASSIGN(Shard next, Shard::Parse(sibling_map->bytes(), sibling));
    file->maps_.push_back(std::move(sibling_map));
    if (next.split_no != i - 1 || next.split_count != count) {
      return Damaged(Quote(sibling, 300) + Format(": its metadata do not say that it is shard %lld "
                                                  "of %lld",
                                                  static_cast<long long>(i),
                                                  static_cast<long long>(count)));
    }
    LODE_TRY(file->AddShard(std::move(next), false));
  }
  if (count > 1 && tensors_expected.has_value() &&
      static_cast<uint64_t>(*tensors_expected) != file->tensors_.size()) {
    return Damaged(Quote(path, 300) + Format(": its shards hold %zu tensors, not the %lld that it "
                                             "announces",
                                             file->tensors_.size(),
                                             static_cast<long long>(*tensors_expected)));
  }
  LODE_TRY(file->Complete());
  return file;
}

Result<std::unique_ptr<GgufFile>> GgufFile::FromMemory(std::span<const std::byte> bytes,
                                                       const std::string& name) {
  std::unique_ptr<GgufFile> file(new GgufFile);
  file->path_ = name;
  LODE_ASSIGN(Shard shard, Shard::Parse(bytes, name));
  if (shard.split_count.value_or(0) > 1) {
    return Error(Code::kUnsupported, Quote(name) + ": a shard cannot be opened from memory");
  }
  LODE_TRY(file->AddShard(std::move(shard), true));
  LODE_TRY(file->Complete());
  return file;
}

// The parts of the vocabulary must agree, so that a tokenizer can index one by the other.
Result<void> GgufFile::CheckVocabulary() const {
  const GgufEntry* tokens = FindEntry("tokenizer.ggml.tokens");
  if (tokens == nullptr) return {};
  const std::string place = Quote(path_, 300) + ": key ";
  if (tokens->type != GgufType::kArray || tokens->element != GgufType::kString) {
    return Damaged(place + "'tokenizer.ggml.tokens' is " + Describe(*tokens) +
                   ", not an array of string");
  }
  for (const char* key : {"tokenizer.ggml.token_type", "tokenizer.ggml.scores"}) {
    const GgufEntry* entry = FindEntry(key);
    if (entry == nullptr) continue;
    if (entry->type != GgufType::kArray || entry->count != tokens->count) {
      return Damaged(place + Quote(key) + Format(" does not have one value for each of %llu tokens",
                                                 static_cast<unsigned long long>(tokens->count)));
    }
  }
  for (const GgufEntry& entry : entries_) {
    if (!StartsWith(entry.key, "tokenizer.ggml.") || !EndsWith(entry.key, "_token_id")) continue;
    int64_t id = 0;
    if (!IsInteger(entry.type) || !LoadInteger(entry.type, entry.bytes.data(), &id) || id < 0 ||
        static_cast<uint64_t>(id) >= tokens->count) {
      return Damaged(place + Quote(entry.key) + Format(" is no id of the %llu tokens",
                                                       static_cast<unsigned long long>(
                                                           tokens->count)));
    }
  }
  return {};
}

const TensorInfo* GgufFile::Find(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

tensor::TensorView GgufFile::View(const TensorInfo& info) const {
  const auto found = tensor_index_.find(info.name);
  LODE_CHECK(found != tensor_index_.end());
  const TensorInfo& ours = tensors_[found->second];
  const std::span<const std::byte> file = files_[static_cast<size_t>(tensor_file_[found->second])];
  // An empty tensor may stand behind the end of the file.
  if (ours.bytes == 0) return {ours.dtype, ours.shape, {}};
  return {ours.dtype, ours.shape, file.subspan(ours.file_offset, ours.bytes)};
}

const GgufEntry* GgufFile::FindEntry(std::string_view key) const {
  const auto found = entry_index_.find(key);
  return found == entry_index_.end() ? nullptr : &entries_[found->second];
}

Result<const GgufEntry*> GgufFile::Need(std::string_view key) const {
  const GgufEntry* entry = FindEntry(key);
  if (entry != nullptr) return entry;
  return Error(Code::kNotFound, Quote(path_, 300) + ": its metadata lack the key " + Quote(key),
               "the file was made for another purpose or by a broken converter");
}

namespace {

Error WrongKind(const std::string& path, const GgufEntry& entry, const char* wanted) {
  return Error(Code::kBadInput, Quote(path, 300) + ": key " + Quote(entry.key) + " is " +
                                    Describe(entry) + ", not " + wanted);
}

}  // namespace

Result<std::string_view> GgufFile::GetString(std::string_view key) const {
  LODE_ASSIGN(const GgufEntry* entry, Need(key));
  if (entry->type != GgufType::kString) return WrongKind(path_, *entry, "a string");
  return std::string_view(reinterpret_cast<const char*>(entry->bytes.data()), entry->bytes.size());
}

Result<int64_t> GgufFile::GetInt(std::string_view key) const {
  LODE_ASSIGN(const GgufEntry* entry, Need(key));
  int64_t value = 0;
  if (!LoadInteger(entry->type, entry->bytes.data(), &value)) {
    return WrongKind(path_, *entry, "an integer that fits 64 bits");
  }
  return value;
}

Result<double> GgufFile::GetFloat(std::string_view key) const {
  LODE_ASSIGN(const GgufEntry* entry, Need(key));
  double value = 0;
  if (!LoadFloat(entry->type, entry->bytes.data(), &value)) {
    return WrongKind(path_, *entry, "a number");
  }
  return value;
}

Result<bool> GgufFile::GetBool(std::string_view key) const {
  LODE_ASSIGN(const GgufEntry* entry, Need(key));
  if (entry->type != GgufType::kBool) return WrongKind(path_, *entry, "a bool");
  return entry->bytes[0] != std::byte{0};
}

Result<std::vector<std::string_view>> GgufFile::GetStrings(std::string_view key) const {
  LODE_ASSIGN(const GgufEntry* entry, Need(key));
  if (entry->type != GgufType::kArray || entry->element != GgufType::kString) {
    return WrongKind(path_, *entry, "an array of strings");
  }
  std::vector<std::string_view> strings(entry->count);
  Cursor cursor(entry->bytes);
  for (std::string_view& text : strings) LODE_CHECK(cursor.ReadString(&text));  // checked at open
  return strings;
}

Result<std::vector<int64_t>> GgufFile::GetInts(std::string_view key) const {
  LODE_ASSIGN(const GgufEntry* entry, Need(key));
  const size_t size = static_cast<size_t>(FixedBytes(entry->element));
  if (entry->type != GgufType::kArray || size == 0 || IsFloat(entry->element)) {
    return WrongKind(path_, *entry, "an array of integers");
  }
  std::vector<int64_t> values(entry->count);
  for (size_t i = 0; i < values.size(); ++i) {
    if (!LoadInteger(entry->element, entry->bytes.data() + i * size, &values[i])) {
      return WrongKind(path_, *entry, "an array of integers that fit 64 bits");
    }
  }
  return values;
}

Result<std::vector<float>> GgufFile::GetFloats(std::string_view key) const {
  LODE_ASSIGN(const GgufEntry* entry, Need(key));
  const size_t size = static_cast<size_t>(FixedBytes(entry->element));
  if (entry->type != GgufType::kArray || size == 0 || entry->element == GgufType::kBool) {
    return WrongKind(path_, *entry, "an array of numbers");
  }
  std::vector<float> values(entry->count);
  for (size_t i = 0; i < values.size(); ++i) {
    double value = 0;
    LODE_CHECK(LoadFloat(entry->element, entry->bytes.data() + i * size, &value));
    values[i] = static_cast<float>(value);
  }
  return values;
}

namespace {

Json ScalarToJson(GgufType type, const std::byte* at) {
  switch (type) {
    case GgufType::kBool: return LoadUnaligned<uint8_t>(at) != 0;
    case GgufType::kF32: return static_cast<double>(LoadUnaligned<float>(at));
    case GgufType::kF64: return LoadUnaligned<double>(at);
    case GgufType::kU64: return LoadUnaligned<uint64_t>(at);
    default: break;
  }
  int64_t value = 0;
  LoadInteger(type, at, &value);
  return value;
}

Json StringToJson(std::string_view text) { return ReplaceInvalidUtf8(text); }

}  // namespace

void GgufFile::BuildConfig() {
  config_ = Json::object();
  // Straight into the object's vector: keys are known to be unique, and the library's insertion
  // compares with all of them.
  auto& members = config_.get_ref<Json::object_t&>();
  members.reserve(entries_.size());
  for (const GgufEntry& entry : entries_) {
    if (entry.type == GgufType::kArray && entry.count > kConfigArrayMax) continue;
    Json value;
    if (entry.type == GgufType::kString) {
      value = StringToJson(
          {reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size()});
    } else if (entry.type != GgufType::kArray) {
      value = ScalarToJson(entry.type, entry.bytes.data());
    } else {
      value = Json::array();
      Cursor cursor(entry.bytes);
      for (uint64_t i = 0; i < entry.count; ++i) {
        std::string_view text;
        if (entry.element == GgufType::kString) {
          LODE_CHECK(cursor.ReadString(&text));
          value.push_back(StringToJson(text));
        } else {
          const uint64_t at = i * static_cast<uint64_t>(FixedBytes(entry.element));
          value.push_back(ScalarToJson(entry.element, entry.bytes.data() + at));
        }
      }
    }
    members.emplace_back(std::string(entry.key), std::move(value));
  }
}

}  // namespace lode::formats
