#include "quant/record.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "tensor/dtype.h"

namespace lode::quant {
namespace {

using formats::GgufEntry;
using formats::GgufFile;
using formats::GgufType;
using tensor::TensorInfo;

constexpr std::string_view kFilePrefix = "lode.file.";
constexpr std::string_view kHeaderPrefix = "lode.safetensors.";
constexpr const char* kTokenizerKey = "tokenizer.huggingface.json";
constexpr const char* kTokenizerFile = "tokenizer.json";
constexpr uint64_t kTextBytesMax = uint64_t{64} << 20;

// A name that stays in its folder, shows in a listing and fits a metadata key.
bool IsPlainName(std::string_view name) {
  return !name.empty() && name.size() <= 200 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

bool IsTextName(std::string_view name) {
  return IsPlainName(name) && (EndsWith(name, ".json") || EndsWith(name, ".jinja") ||
                               EndsWith(name, ".txt") || EndsWith(name, ".md"));
}

std::string_view Text(const GgufEntry& entry) {
  return {reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size()};
}

Error Damaged(const std::string& what) {
  return Error(Code::kBadInput, "its record of the original checkpoint is damaged: " + what,
               "convert it with --type bf16, which does not need the record");
}

// One tensor of a header; "data_offsets" are checked by the caller, who knows the neighbours.
Result<TensorInfo> ReadTensor(const std::string& name, const Json& value, const std::string& file,
                              uint64_t* end) {
  const Json* dtype = FindKey(value, "dtype");
  const Json* shape = FindKey(value, "shape");
  const Json* offsets = FindKey(value, "data_offsets");
  if (dtype == nullptr || !dtype->is_string() || shape == nullptr || !shape->is_array() ||
      offsets == nullptr || !offsets->is_array() || offsets->size() != 2 ||
      !(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned()) {
    return Damaged("tensor " + Quote(name) + " is not described");
  }
  TensorInfo info;
  info.name = name;
  info.file = file;
  LODE_ASSIGN(info.dtype, tensor::DTypeFromSafetensors(dtype->get_ref<const std::string&>()));
  for (const Json& dim : *shape) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > uint64_t{1} << 48) {
      return Damaged("tensor " + Quote(name) + " has no proper shape");
    }
    info.shape.push_back(dim.get<int64_t>());
  }
  info.file_offset = (*offsets)[0].get<uint64_t>();
  *end = (*offsets)[1].get<uint64_t>();
  if (!tensor::CountBytes(info.dtype, info.shape, &info.bytes) || *end < info.file_offset ||
      *end - info.file_offset != info.bytes) {
    return Damaged("the bytes of tensor " + Quote(name) + " do not fit its shape");
  }
  return info;
}

// Appends the tensors of file.header in the order of their bytes.
Result<void> ParseHeader(RecordedFile* file, std::vector<TensorInfo>* tensors) {
  Result<Json> json = ParseJson(file->header, {.refuse_duplicates = true});
  if (!json.ok() || !json->is_object()) {
    return Damaged("the header of " + Quote(file->name) + " is no JSON object");
  }
  file->begin = tensors->size();
  for (const auto& [name, value] : json->items()) {
    if (name == "__metadata__") continue;
    uint64_t end = 0;
    LODE_ASSIGN(TensorInfo info, ReadTensor(name, value, file->name, &end));
    tensors->push_back(std::move(info));
  }
  file->end = tensors->size();
  const auto first = tensors->begin() + static_cast<std::ptrdiff_t>(file->begin);
  std::stable_sort(first, tensors->end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.file_offset, a.bytes) < std::pair(b.file_offset, b.bytes);
  });
  uint64_t at = 0;
  for (auto info = first; info != tensors->end(); ++info) {
    if (info->file_offset != at) {
      return Damaged("tensors of " + Quote(file->name) + " overlap or leave holes");
    }
    at += info->bytes;
  }
  return {};
}

Result<void> ReadKept(const GgufFile& file, Record* record) {
  const GgufEntry* bytes = file.FindEntry("lode.kept.bytes");
  if (bytes == nullptr && !file.Has("lode.kept.names")) return {};
  if (bytes == nullptr || bytes->type != GgufType::kArray || bytes->element != GgufType::kU8) {
    return Damaged("'lode.kept.bytes' is no array of bytes");
  }
  LODE_ASSIGN(const auto names, file.GetStrings("lode.kept.names"));
  std::unordered_map<std::string_view, const TensorInfo*> index;
  for (const TensorInfo& info : record->tensors) index.emplace(info.name, &info);
  std::span<const std::byte> rest = bytes->bytes;
  for (const std::string_view name : names) {
    const auto found = index.find(name);
    if (found == index.end() || rest.size() < found->second->bytes) {
      return Damaged("'lode.kept.bytes' is shorter than what 'lode.kept.names' lists");
    }
    record->kept[name] = rest.first(found->second->bytes);
    rest = rest.subspan(found->second->bytes);
  }
  return {};
}

// The text of a weight file's header.
Result<std::string> HeaderOf(const formats::HfCheckpoint& checkpoint, const std::string& path,
                             const std::string& name) {
  const auto cut = [&](std::span<const std::byte> bytes) -> Result<std::string> {
    uint64_t length = 0;
    if (bytes.size() < sizeof(length)) return Damaged(Quote(name) + " is too short");
    std::memcpy(&length, bytes.data(), sizeof(length));
    if (length > bytes.size() - sizeof(length)) return Damaged(Quote(name) + " is too short");
    return std::string(reinterpret_cast<const char*>(bytes.data()) + sizeof(length), length);
  };
  if (FileExists(path)) {
    LODE_ASSIGN(const auto map, MappedFile::Open(path));
    return cut(map->bytes());
  }
  LODE_ASSIGN(const std::string content, checkpoint.ReadFile(name));  // a model in memory
  return cut(std::as_bytes(std::span(content.data(), content.size())));
}

}  // namespace

Result<Record> ReadRecord(const GgufFile& file) {
  Record record;
  const auto read = [&]() -> Result<void> {
    for (const GgufEntry& entry : file.entries()) {
      if (entry.type != GgufType::kString) continue;
      if (entry.key == kTokenizerKey) {
        record.texts[kTokenizerFile] = Text(entry);
      } else if (StartsWith(entry.key, kFilePrefix)) {
        const std::string name(entry.key.substr(kFilePrefix.size()));
        if (!IsTextName(name)) return Damaged(Quote(name) + " is no name of a text file");
        record.texts[name] = Text(entry);
      } else if (StartsWith(entry.key, kHeaderPrefix)) {
        RecordedFile recorded;
        recorded.name = entry.key.substr(kHeaderPrefix.size());
        recorded.header = Text(entry);
        if (!IsPlainName(recorded.name) || !EndsWith(recorded.name, ".safetensors")) {
          return Damaged(Quote(recorded.name) + " is no name of a weight file");
        }
        LODE_TRY(ParseHeader(&recorded, &record.tensors));
        record.files.push_back(std::move(recorded));
      }
    }
    std::set<std::string_view> names;
    for (const TensorInfo& info : record.tensors) {
      if (!names.insert(info.name).second) {
        return Damaged("tensor " + Quote(info.name) + " is there twice");
      }
    }
    return ReadKept(file, &record);
  };
  Result<void> done = read();
  if (!done.ok()) return std::move(done.error().AddContext(Quote(file.path(), 300)));
  return record;
}

Result<std::map<std::string, std::string>> ReadTexts(const formats::HfCheckpoint& checkpoint) {
  std::set<std::string> names = {"config.json", "generation_config.json", "tokenizer.json",
                                 "tokenizer_config.json", "special_tokens_map.json",
                                 "chat_template.jinja", "chat_template.json",
                                 "hf_quant_config.json", "model.safetensors.index.json"};
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(checkpoint.path(), ignored)) {
    if (entry.is_regular_file(ignored)) names.insert(entry.path().filename().string());
  }
  std::map<std::string, std::string> texts;
  for (const std::string& name : names) {
    if (!IsTextName(name) || !checkpoint.HasFile(name)) continue;
    const Result<uint64_t> size = FileSize(checkpoint.path() + "/" + name);
    if (size.ok() && *size > kTextBytesMax) continue;
    LODE_ASSIGN(std::string text, checkpoint.ReadFile(name));
    if (IsValidUtf8(text)) texts[name] = std::move(text);
  }
  return texts;
}

Result<Record> ReadLayout(const formats::HfCheckpoint& checkpoint, bool* complete) {
  Record record;
  *complete = &checkpoint.root_config() == &checkpoint.config();  // else a part of a larger model
  std::map<std::string, size_t> given;  // path -> tensors that the checkpoint has of it
  std::vector<std::string> paths;
  for (const TensorInfo& info : checkpoint.tensors()) {
    if (given[info.file]++ == 0) paths.push_back(info.file);
  }
  for (const std::string& path : paths) {
    RecordedFile file;
    file.name = std::filesystem::path(path).filename().string();
    LODE_ASSIGN(file.header, HeaderOf(checkpoint, path, file.name));
    const Result<void> parsed = ParseHeader(&file, &record.tensors);
    if (!parsed.ok() || file.end - file.begin != given[path] || !IsPlainName(file.name)) {
      *complete = false;
      return record;
    }
    record.files.push_back(std::move(file));
  }
  return record;
}

void WriteTexts(const std::map<std::string, std::string>& texts, formats::GgufWriter* writer) {
  writer->SetU32("lode.version", 1);
  for (const auto& [name, text] : texts) {
    writer->SetString(name == kTokenizerFile ? kTokenizerKey : std::string(kFilePrefix) + name, text);
  }
}

void WriteLayout(const Record& layout, formats::GgufWriter* writer) {
  for (const RecordedFile& file : layout.files) {
    writer->SetString(std::string(kHeaderPrefix) + file.name, file.header);
  }
}

void WriteKept(const std::vector<std::string_view>& names, std::span<const std::byte> bytes,
               formats::GgufWriter* writer) {
  writer->SetStrings("lode.kept.names", std::span<const std::string_view>(names));
  GgufEntry entry;
  entry.key = "lode.kept.bytes";
  entry.type = GgufType::kArray;
  entry.element = GgufType::kU8;
  entry.count = bytes.size();
  entry.bytes = bytes;
  writer->Set(entry);
}

}  // namespace lode::quant
