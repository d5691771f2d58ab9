#include "base/json.h"

#include <set>
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

}  // namespace

Result<Json> ParseJson(std::string_view text, const JsonLimits& limits) {
  // Depth is counted before parsing: the library's parser keeps its own stack on the heap, but
  // destroying and walking a very deep document recurses.
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
      if (++depth > limits.depth_max) {
        return Error(Code::kBadInput, Format("JSON is nested deeper than %d levels at ",
                                             limits.depth_max) + Place(text, i));
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  std::string duplicate;
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty()) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second && duplicate.empty()) duplicate = key;
    }
    return true;
  };
  try {
    Json json = limits.refuse_duplicates ? Json::parse(text.begin(), text.end(), watch)
                                         : Json::parse(text.begin(), text.end());
    if (!duplicate.empty()) {
      return Error(Code::kBadInput, "JSON has the key " + Quote(duplicate) + " twice");
    }
    return json;
  } catch (const Json::parse_error& error) {
    return Error(Code::kBadInput, "not valid JSON at " + Place(text, error.byte));
  } catch (const std::exception& error) {
    return Error(Code::kBadInput, std::string("not valid JSON: ") + error.what());
  }
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
