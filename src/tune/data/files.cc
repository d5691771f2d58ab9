#include "tune/data/files.h"

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/text.h"

namespace lode::tune {
namespace {

constexpr int kFolderDepthMax = 32;

bool IsPlainText(const std::string& name) {
  return EndsWith(name, ".txt") || EndsWith(name, ".md");
}
bool IsJson(const std::string& name) {
  return EndsWith(name, ".jsonl") || EndsWith(name, ".json") || EndsWith(name, ".ndjson");
}

Result<void> CheckEnding(const std::string& path) {
  if (IsPlainText(path) || IsJson(path) || IsShard(path)) return {};
  if (EndsWith(path, ".parquet")) {
    return Error(Code::kUnsupported, path + ": Parquet is not read directly",
                 "runs/parquet_to_jsonl.py IN.parquet OUT.jsonl converts it");
  }
  return Error(Code::kUnsupported, path + ": no .jsonl, .json, .txt, .md or .tokens file",
               "rename it, or name the files to read");
}

Result<void> FindInFolder(const std::string& folder, int depth, std::vector<std::string>* files) {
  if (depth > kFolderDepthMax) return Error(Code::kBadInput, folder + ": folders are too deep");
  LODE_ASSIGN(const std::vector<std::string> names, ListFolder(folder));
  for (const std::string& name : names) {
    const std::string path = folder + "/" + name;
    if (name[0] == '.') continue;
    if (IsFolder(path)) {
      LODE_TRY(FindInFolder(path, depth + 1, files));
    } else if (IsPlainText(name) || IsJson(name) || EndsWith(name, ".tokens")) {
      files->push_back(path);
    }
  }
  return {};
}

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr std::string_view kBlank = " \t\r\n";

// {"...": ...} records in one JSON list. The text is bounded: a list is held whole.
constexpr size_t kListBytesMax = size_t{1} << 30;

Result<void> VisitList(std::string_view bytes, const std::string& name,
                       const RecordOptions& options, const RecordVisitor& visit) {
  const auto size = static_cast<int64_t>(bytes.size());
  const Place whole = {name, 0, false, size};
  if (bytes.size() > kListBytesMax) {
    return visit(whole, Error(Code::kNoSpace, "one JSON list of " + HumanBytes(bytes.size()),
                              "write a record in each line (.jsonl)"));
  }
  auto list = ParseJson(bytes, {.depth_max = 65, .python_numbers = true});
  if (!list.ok()) return visit(whole, std::move(list).error());
  int64_t number = 0;
  for (const Json& json : *list) {
    ++number;
    const int64_t done = size / static_cast<int64_t>(list->size()) * number;  // about
    LODE_TRY(visit({name, number, true, done}, RecordOf(json, options)));
  }
  return {};
}

Result<void> VisitLines(std::string_view bytes, const std::string& name,
                        const RecordOptions& options, const RecordVisitor& visit) {
  int64_t number = 0;
  const size_t all = bytes.size();
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find('\n'), bytes.size());
    const std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
    ++number;
    if (line.find_first_not_of(kBlank) == line.npos) continue;
    const auto done = static_cast<int64_t>(all - bytes.size());
    LODE_TRY(visit({name, number, false, done}, ParseRecord(line, options)));
  }
  return {};
}

}  // namespace

bool IsShard(const std::string& path) {
  return EndsWith(path, ".tokens") || EndsWith(path, ".bin") || EndsWith(path, ".idx");
}

std::string ToString(const Place& place) {
  if (place.line == 0) return place.file;
  return place.file +
         Format(place.record ? ", record %lld" : ":%lld", static_cast<long long>(place.line));
}

Result<std::vector<std::string>> FindDataFiles(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (!FileExists(path)) return Error(Code::kNotFound, "there is no file " + Quote(path, 300));
    if (!IsFolder(path)) {
      LODE_TRY(CheckEnding(path));
      files.push_back(path);
      continue;
    }
    const size_t before = files.size();
    LODE_TRY(FindInFolder(path, 0, &files));
    if (files.size() == before) {
      return Error(Code::kNotFound,
                   path + ": no .jsonl, .json, .txt or .md file is in this folder");
    }
  }
  return files;
}

Result<void> VisitRecordsOf(std::string_view bytes, const std::string& name,
                            const RecordOptions& options, const RecordVisitor& visit) {
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  if (IsPlainText(name)) {
    DataRecord record;
    record.kind = RecordKind::kText;
    record.answer.is_text = true;
    record.answer.text = bytes;
    return visit({name, 0, false, static_cast<int64_t>(bytes.size())}, std::move(record));
  }
  const size_t first = bytes.find_first_not_of(kBlank);
  const bool list = EndsWith(name, ".json") && first != bytes.npos && bytes[first] == '[';
  return list ? VisitList(bytes, name, options, visit) : VisitLines(bytes, name, options, visit);
}

Result<void> VisitRecords(const std::string& file, const RecordOptions& options,
                          const RecordVisitor& visit) {
  LODE_ASSIGN(const auto mapped, MappedFile::Open(file));
  const auto bytes = mapped->bytes();
  return VisitRecordsOf({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file, options,
                        visit);
}

}  // namespace lode::tune
