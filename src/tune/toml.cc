#include "tune/toml.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/text.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

namespace lode::tune {
namespace {

int LineOf(const toml::source_region& region) { return static_cast<int>(region.begin.line); }

Error Bad(const toml::source_region& region, const std::string& what) {
  return Error(
      Code::kBadInput,
      Format("line %d, column %d: ", LineOf(region), static_cast<int>(region.begin.column)) + what);
}

Result<Json> Convert(const toml::node& node) {
  if (const auto* text = node.as_string()) return Json(text->get());
  if (const auto* number = node.as_integer()) return Json(number->get());
  if (const auto* truth = node.as_boolean()) return Json(truth->get());
  if (const auto* real = node.as_floating_point()) {
    if (!std::isfinite(real->get())) return Bad(node.source(), "a number must be finite");
    return Json(real->get());
  }
  if (const auto* list = node.as_array()) {
    Json items = Json::array();
    for (const toml::node& item : *list) {
      LODE_ASSIGN(Json value, Convert(item));
      items.push_back(std::move(value));
    }
    return items;
  }
  if (const auto* table = node.as_table()) {
    Json object = Json::object();
    for (const auto& [key, item] : *table) {
      LODE_ASSIGN(Json value, Convert(item));
      object[std::string(key.str())] = std::move(value);
    }
    return object;
  }
  return Bad(node.source(), "dates and times mean nothing here");
}

Result<void> Flatten(const toml::table& table, const std::string& prefix,
                     std::vector<TomlValue>* values) {
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    if (const auto* inner = node.as_table()) {
      LODE_TRY(Flatten(*inner, name + ".", values));
      continue;
    }
    LODE_ASSIGN(Json value, Convert(node));
    values->push_back({name, std::move(value), LineOf(key.source())});
  }
  return {};
}

}  // namespace

Result<std::vector<TomlValue>> ParseToml(std::string_view text) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return Bad(parsed.error().source(), std::string(parsed.error().description()));
  }
  std::vector<TomlValue> values;
  LODE_TRY(Flatten(parsed.table(), "", &values));
  std::stable_sort(values.begin(), values.end(),
                   [](const TomlValue& a, const TomlValue& b) { return a.line < b.line; });
  return values;
}

}  // namespace lode::tune
