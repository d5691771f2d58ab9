#include "tune/data/source.h"

#include <utility>

#include "base/text.h"

namespace lode::tune {

Result<std::vector<Bin>> DataSource::Next(int64_t bins) {
  std::vector<Bin> step;
  for (int64_t i = 0; i < bins; ++i) {
    LODE_ASSIGN(Bin bin, NextBin());
    step.push_back(std::move(bin));
  }
  return step;
}

Json DataSource::Save() const {
  return {{"fingerprint", Format("%016llx", static_cast<unsigned long long>(Fingerprint()))},
          {"position", Position()}};
}

Result<void> DataSource::Restore(const Json& cursor, bool other_data) {
  const Json now = Save();
  const Json* position = FindKey(cursor, "position");
  if (position == nullptr || !cursor.contains("fingerprint")) {
    return Error(Code::kBadInput, "this is no cursor of a data source");
  }
  if (cursor["fingerprint"] != now["fingerprint"]) {
    if (other_data) return {};
    return Error(
        Code::kBadInput,
        "the data, its order or the size of bins is not what the checkpoint was trained on",
        "give the same data and options, or say that the change is meant");
  }
  return SetPosition(*position);
}

}  // namespace lode::tune
