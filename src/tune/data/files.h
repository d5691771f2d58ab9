// Files of data, record by record, with the place of each: .jsonl (a record in each line), .json
// (the same, or one list of records), .txt and .md (the whole file is a text), shards of tokens
// (.tokens, .bin; shard.h), folders of these.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "tune/data/record.h"

namespace lode::tune {

struct Place {
  std::string file;
  int64_t line = 0;     // from 1; of a list in JSON the record's number; 0: the whole file
  bool record = false;  // `line` counts records, not lines
  int64_t bytes = 0;    // of the file, up to the record's end
};
// "chat.jsonl:17", "chat.json, record 17", "notes.md".
std::string ToString(const Place& place);

// By its ending: .tokens, .bin or .idx.
bool IsShard(const std::string& path);

// Paths as given, folders replaced by what is in them at any depth, in order of names; names that
// begin with a dot are passed over. Errors: what does not exist, an ending that is not read (for
// .parquet with what to do), a folder without data.
Result<std::vector<std::string>> FindDataFiles(const std::vector<std::string>& paths);

// Returning an Error stops the walk and is what VisitRecords returns.
using RecordVisitor = std::function<Result<void>(const Place& place, Result<DataRecord> record)>;
// Every record of a file that is no shard; what cannot be read comes as an Error, and the walk goes
// on. Empty lines are passed over. Errors: files that cannot be opened, and the visitor's own.
Result<void> VisitRecords(const std::string& file, const RecordOptions& options,
                          const RecordVisitor& visit);
// The same of bytes in memory, as a file called `name` would be read.
Result<void> VisitRecordsOf(std::string_view bytes, const std::string& name,
                            const RecordOptions& options, const RecordVisitor& visit);

}  // namespace lode::tune
