#include "serve/fields.h"

#include <cmath>

#include "base/text.h"

namespace lode::serve {
namespace {

constexpr int kBodyDepthMax = 100;

std::string Show(double number) { return Format("%.15g", number); }

}  // namespace

const Json* Fields::Find(std::string_view name) const {
  const Json* found = FindKey(object_, name);
  return found == nullptr || found->is_null() ? nullptr : found;
}

std::string Fields::Path(std::string_view name) const {
  return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
}

Error Fields::Bad(std::string_view name, const std::string& what) const {
  return Error(Code::kBadInput, Path(name) + ": " + what);
}

Result<std::optional<std::string>> Fields::String(std::string_view name) const {
  const Json* found = Find(name);
  if (found == nullptr) return std::optional<std::string>();
  if (!found->is_string()) return Bad(name, "must be a string");
  return std::optional(found->get<std::string>());
}

Result<std::optional<bool>> Fields::Bool(std::string_view name) const {
  const Json* found = Find(name);
  if (found == nullptr) return std::optional<bool>();
  if (!found->is_boolean()) return Bad(name, "must be true or false");
  return std::optional(found->get<bool>());
}

Result<std::optional<double>> Fields::Number(std::string_view name, double least,
                                             double most) const {
  const Json* found = Find(name);
  if (found == nullptr) return std::optional<double>();
  if (!found->is_number()) return Bad(name, "must be a number");
  const auto number = found->get<double>();
  if (!(number >= least && number <= most)) {
    return Bad(name,
               "must be from " + Show(least) + " to " + Show(most) + ", and is " + Show(number));
  }
  return std::optional(number);
}

Result<std::optional<int64_t>> Fields::Integer(std::string_view name, int64_t least,
                                               int64_t most) const {
  const Json* found = Find(name);
  if (found == nullptr) return std::optional<int64_t>();
  const auto whole = [](double number) { return std::floor(number) == number; };
  const bool fraction = found->is_number_float() && !whole(found->get<double>());
  if (!found->is_number() || fraction) return Bad(name, "must be a whole number");
  const auto about = found->get<double>();
  const bool fits = about >= static_cast<double>(least) && about <= static_cast<double>(most) &&
                    about < 0x1p63 && about >= -0x1p63;
  const int64_t number = fits ? found->get<int64_t>() : 0;
  if (!fits || number < least || number > most) {
    return Bad(name, "must be from " + std::to_string(least) + " to " + std::to_string(most) +
                         ", and is " + Quote(DumpJson(*found), 40));
  }
  return std::optional(number);
}

Result<const Json*> Fields::Object(std::string_view name) const {
  const Json* found = Find(name);
  if (found != nullptr && !found->is_object()) return Bad(name, "must be an object");
  return found;
}

Result<const Json*> Fields::Array(std::string_view name) const {
  const Json* found = Find(name);
  if (found != nullptr && !found->is_array()) return Bad(name, "must be a list");
  return found;
}

Result<std::vector<std::string>> Fields::Strings(std::string_view name, size_t count_max,
                                                 size_t bytes_max) const {
  std::vector<std::string> strings;
  const Json* found = Find(name);
  if (found == nullptr) return strings;
  if (found->is_string()) {
    strings.push_back(found->get<std::string>());
  } else if (found->is_array()) {
    for (const Json& one : *found) {
      if (!one.is_string()) return Bad(name, "must be a string or a list of strings");
      strings.push_back(one.get<std::string>());
    }
  } else {
    return Bad(name, "must be a string or a list of strings");
  }
  if (strings.size() > count_max) {
    return Bad(name, Format("has %zu entries, and may have %zu", strings.size(), count_max));
  }
  for (const std::string& one : strings) {
    if (one.size() > bytes_max) {
      return Bad(name,
                 Format("has an entry of %zu bytes, and may have %zu", one.size(), bytes_max));
    }
  }
  return strings;
}

std::string At(const std::string& path, size_t index) {
  return path + "[" + std::to_string(index) + "]";
}

Result<Fields> ObjectAt(const Json& list, size_t index, const std::string& path) {
  std::string here = At(path, index);
  if (!list[index].is_object()) return Error(Code::kBadInput, here + ": must be an object");
  return Fields(list[index], std::move(here));
}

std::string ParamOf(const Error& error) {
  const std::string& message = error.message();
  const size_t end = message.find(": ");
  if (end == std::string::npos || end == 0) return "";
  for (size_t i = 0; i < end; ++i) {
    const auto c = static_cast<unsigned char>(message[i]);
    const bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
    const bool other = (c >= '0' && c <= '9') || c == '.' || c == '[' || c == ']' || c == '-';
    if (!letter && c != '_' && !(other && i > 0)) return "";
  }
  return message.substr(0, end);
}

Result<Json> ParseBody(std::string_view body) {
  auto json = ParseJson(body, {.depth_max = kBodyDepthMax});
  if (!json.ok()) {
    return Error(Code::kBadInput, "the body is not JSON: " + json.error().message());
  }
  if (!json->is_object()) {
    return Error(Code::kBadInput, "the body must be a JSON object");
  }
  return json;
}

}  // namespace lode::serve
