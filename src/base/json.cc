#include "base/json.h"

#include <unordered_map>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/text.h"

namespace lode {
namespace {

std::string Place(std::string_view text, size_t offset) {
  size_t line = 1;
  size_t column = 1;
  for (size_t i = 0; i < offset && i < text.size(); ++i) {
    ++column;
    if (text[i] == '\n') {
      ++line;
      column = 1;
    }
  }
  return Format("line %zu, column %zu", line, column);
}

// The library's events, passed on to a JsonVisitor.
class Events {
 public:
  Events(std::string_view text, JsonVisitor* visitor) : text_(text), visitor_(visitor) {}

  bool null() { return Take(visitor_->Value(nullptr)); }
  bool boolean(bool value) { return Take(visitor_->Value(value)); }
  bool number_integer(Json::number_integer_t value) { return Take(visitor_->Value(value)); }
  bool number_unsigned(Json::number_unsigned_t value) { return Take(visitor_->Value(value)); }
  bool number_float(double value, const std::string&) { return Take(visitor_->Value(value)); }
  bool string(std::string& value) { return Take(visitor_->Value(std::move(value))); }
  bool binary(Json::binary_t&) { return false; }  // never in JSON text
  bool start_object(size_t) { return Take(visitor_->StartObject()); }
  bool key(std::string& value) { return Take(visitor_->Key(value)); }
  bool end_object() { return Take(visitor_->EndObject()); }
  bool start_array(size_t) { return Take(visitor_->StartArray()); }
  bool end_array() { return Take(visitor_->EndArray()); }
  bool parse_error(size_t position, const std::string&, const std::exception&) {
    return Take(Error(Code::kBadInput, "not valid JSON at " + Place(text_, position)));
  }

  Result<void> TakeResult() { return std::move(result_); }

 private:
  bool Take(Result<void> result) {
    result_ = std::move(result);
    return result_.ok();
  }

  std::string_view text_;
  JsonVisitor* visitor_;
  Result<void> result_;
};

// Builds the document. The library's own builder compares every new key of an ordered object with all
// keys before it, which takes minutes for a vocabulary; this one looks for repeated keys once, when
// the object ends.
class Builder final : public JsonVisitor {
 public:
  explicit Builder(bool refuse_duplicates) : refuse_duplicates_(refuse_duplicates) {}

  Result<void> StartObject() override { return Open(Json::object()); }
  Result<void> Key(std::string_view key) override {
    key_ = key;
    return {};
  }
  Result<void> EndObject() override {
    auto& object = open_.back()->get_ref<Json::object_t&>();
    const auto members = object.begin();  // as a vector: the object's own [] wants keys
    const size_t count = object.size();
    open_.pop_back();
    std::unordered_map<std::string_view, size_t> first;
    first.reserve(count);
    std::vector<size_t> repeated;
    for (size_t i = 0; i < count; ++i) {
      const auto [at, is_new] = first.emplace(members[i].first, i);
      if (is_new) continue;
      if (refuse_duplicates_) {
        return Error(Code::kBadInput, "JSON has the key " + Quote(members[i].first) + " twice");
      }
      members[at->second].second = std::move(members[i].second);  // the last value wins
      repeated.push_back(i);
    }
    if (repeated.empty()) return {};
    Json::object_t kept;
    size_t next = 0;
    for (size_t i = 0; i < count; ++i) {
      if (next < repeated.size() && repeated[next] == i) {
        ++next;
      } else {
        kept.emplace_back(members[i].first, std::move(members[i].second));
      }
    }
    object = std::move(kept);
    return {};
  }
  Result<void> StartArray() override { return Open(Json::array()); }
  Result<void> EndArray() override {
    open_.pop_back();
    return {};
  }
  Result<void> Value(Json&& value) override {
    Add(std::move(value));
    return {};
  }

  Json TakeRoot() { return std::move(root_); }

 private:
  Json* Add(Json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    // Only the innermost container grows, so the pointers in open_ stay valid.
    Json& parent = *open_.back();
    if (parent.is_array()) {
      auto& elements = parent.get_ref<Json::array_t&>();
      elements.push_back(std::move(value));
      return &elements.back();
    }
    auto& members = parent.get_ref<Json::object_t&>();
    members.emplace_back(key_, std::move(value));
    return &members.back().second;
  }
  Result<void> Open(Json&& container) {
    open_.push_back(Add(std::move(container)));
    return {};
  }

  const bool refuse_duplicates_;
  Json root_;
  std::vector<Json*> open_;
  std::string key_;
};

// Depth is counted before parsing: the library's parser keeps its own stack on the heap, but
// destroying and walking a very deep document recurses.
Result<void> CheckDepth(std::string_view text, int depth_max) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > depth_max) {
        return Error(Code::kBadInput,
                     Format("JSON is nested deeper than %d levels at ", depth_max) +
                         Place(text, i));
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return {};
}

// Python's bare words for what is no number, put in quotes. Empty when the text has none, so that a
// large file is not copied for nothing.
std::string QuotePythonNumbers(std::string_view text) {
  constexpr std::string_view kWords[] = {"Infinity", "-Infinity", "NaN"};
  std::string quoted;
  size_t copied = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == 'I' || c == '-' || c == 'N') {
      for (const std::string_view word : kWords) {
        if (text.substr(i, word.size()) != word) continue;
        quoted.append(text.substr(copied, i - copied)).append(1, '"').append(word).append(1, '"');
        i += word.size() - 1;
        copied = i + 1;
        break;
      }
    }
  }
  if (copied > 0) quoted.append(text.substr(copied));
  return quoted;
}

}  // namespace

Result<void> VisitJson(std::string_view text, const JsonLimits& limits, JsonVisitor* visitor) {
  LODE_TRY(CheckDepth(text, limits.depth_max));
  std::string quoted;
  if (limits.python_numbers) quoted = QuotePythonNumbers(text);
  if (!quoted.empty()) text = quoted;
  Events events(text, visitor);
  try {
    Json::sax_parse(text.begin(), text.end(), &events);
  } catch (const std::exception& error) {
    return Error(Code::kBadInput, std::string("not valid JSON: ") + error.what());
  }
  return events.TakeResult();
}

Result<Json> ParseJson(std::string_view text, const JsonLimits& limits) {
  Builder builder(limits.refuse_duplicates);
  LODE_TRY(VisitJson(text, limits, &builder));
  return builder.TakeRoot();
}

Result<Json> ReadJsonFile(const std::string& path, const JsonLimits& limits) {
  LODE_ASSIGN(const std::string text, ReadFile(path));
  Result<Json> json = ParseJson(text, limits);
  if (!json.ok()) json.error().AddContext(path);
  return json;
}

std::string DumpJson(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

const Json* FindKey(const Json& json, std::string_view key) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(std::string(key));
  return found == json.end() ? nullptr : &*found;
}

std::string GetString(const Json& json, std::string_view key, std::string fallback) {
  const Json* value = FindKey(json, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : fallback;
}

int64_t GetInt(const Json& json, std::string_view key, int64_t fallback) {
  const Json* value = FindKey(json, key);
  return value != nullptr && value->is_number_integer() ? value->get<int64_t>() : fallback;
}

double GetDouble(const Json& json, std::string_view key, double fallback) {
  const Json* value = FindKey(json, key);
  return value != nullptr && value->is_number() ? value->get<double>() : fallback;
}

bool GetBool(const Json& json, std::string_view key, bool fallback) {
  const Json* value = FindKey(json, key);
  return value != nullptr && value->is_boolean() ? value->get<bool>() : fallback;
}

}  // namespace lode
