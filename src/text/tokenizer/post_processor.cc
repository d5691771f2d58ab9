#include "text/tokenizer/post_processor.h"

#include <limits>

#include "base/text.h"

namespace lode::text {
namespace {

Result<int32_t> ReadId(const Json& json, const std::string& where) {
  if (json.is_number_integer()) {
    const auto id = json.get<int64_t>();
    if (id >= 0 && id < std::numeric_limits<int32_t>::max()) return static_cast<int32_t>(id);
  }
  return Error(Code::kBadInput, where + " holds something that is no token id");
}

// [token, id] of BertProcessing and RobertaProcessing.
Result<int32_t> ReadPair(const Json& json, const char* key) {
  const Json* pair = FindKey(json, key);
  if (pair == nullptr || !pair->is_array() || pair->size() != 2) {
    return Error(Code::kBadInput, Format("the post-processor's \"%s\" is no [token, id]", key));
  }
  return ReadId((*pair)[1], Format("the post-processor's \"%s\"", key));
}

}  // namespace

Result<PostProcessor> PostProcessor::Create(const Json& json) {
  PostProcessor processor;
  if (!json.is_null()) LODE_TRY(processor.Append(json));
  return processor;
}

PostProcessor PostProcessor::Around(std::vector<int32_t> before, std::vector<int32_t> behind) {
  PostProcessor processor;
  processor.steps_.push_back(std::move(before));
  processor.steps_[0].push_back(kText);
  processor.steps_[0].insert(processor.steps_[0].end(), behind.begin(), behind.end());
  return processor;
}

Result<void> PostProcessor::Append(const Json& json) {
  const std::string type = GetString(json, "type");
  if (type == "ByteLevel") return {};  // only moves offsets
  if (type == "Sequence") {
    const Json* list = FindKey(json, "processors");
    if (list == nullptr || !list->is_array()) {
      return Error(Code::kBadInput, "post-processor Sequence has no list \"processors\"");
    }
    for (const Json& step : *list) LODE_TRY(Append(step));
    return {};
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    LODE_ASSIGN(const int32_t cls, ReadPair(json, "cls"));
    LODE_ASSIGN(const int32_t sep, ReadPair(json, "sep"));
    steps_.push_back({cls, kText, sep});
    return {};
  }
  if (type != "TemplateProcessing") {
    return Error(Code::kUnsupported, "the post-processor " + Quote(type) + " is not supported",
                 "known: TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing, Sequence");
  }
  const Json* single = FindKey(json, "single");
  const Json* defined = FindKey(json, "special_tokens");
  if (single == nullptr || !single->is_array()) {
    return Error(Code::kBadInput, "post-processor TemplateProcessing has no list \"single\"");
  }
  std::vector<int32_t> step;
  for (const Json& element : *single) {
    if (const Json* sequence = FindKey(element, "Sequence"); sequence != nullptr) {
      if (GetString(*sequence, "id") != "A") {
        return Error(Code::kBadInput, "TemplateProcessing's \"single\" names a second sequence");
      }
      step.push_back(kText);
      continue;
    }
    const Json* special = FindKey(element, "SpecialToken");
    const std::string name = special != nullptr ? GetString(*special, "id") : "";
    const Json* token = defined != nullptr ? FindKey(*defined, name) : nullptr;
    const Json* ids = token != nullptr ? FindKey(*token, "ids") : nullptr;
    if (ids == nullptr || !ids->is_array()) {
      return Error(Code::kBadInput,
                   "TemplateProcessing uses the special token " + Quote(name) +
                       ", but its \"special_tokens\" do not define it");
    }
    for (const Json& id : *ids) {
      LODE_ASSIGN(const int32_t value, ReadId(id, "TemplateProcessing's token " + Quote(name)));
      step.push_back(value);
    }
  }
  // Two texts in each of many steps would double the output every time.
  size_t texts = 0;
  for (const int32_t id : step) texts += id == kText ? 1 : 0;
  if (texts > 1) {
    return Error(Code::kUnsupported, "TemplateProcessing that repeats its text is not supported");
  }
  steps_.push_back(std::move(step));
  return {};
}

std::vector<int32_t> PostProcessor::Ids() const {
  std::vector<int32_t> ids;
  for (const auto& step : steps_) {
    for (const int32_t id : step) {
      if (id != kText) ids.push_back(id);
    }
  }
  return ids;
}

std::vector<int32_t> PostProcessor::Apply(std::vector<int32_t> ids, bool add_special) const {
  if (!add_special) return ids;
  for (const auto& step : steps_) {
    std::vector<int32_t> out;
    out.reserve(ids.size() + step.size());
    for (const int32_t id : step) {
      if (id == kText) {
        out.insert(out.end(), ids.begin(), ids.end());
      } else {
        out.push_back(id);
      }
    }
    ids = std::move(out);
  }
  return ids;
}

}  // namespace lode::text
