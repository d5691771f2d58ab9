#include "tune/settings.h"

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/text.h"
#include "tune/toml.h"

namespace lode::tune {
namespace {

constexpr uint64_t kFileBytesMax = 1 << 20;

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(1, slash));
}

Error Bad(const Setting& setting, const std::string& what, std::string hint = "") {
  return Error(Code::kBadInput, setting.where + ": " + setting.key + " " + what, std::move(hint));
}

// A number as people write it: 1000000 rather than 1e+06.
std::string Number(double x) {
  return std::abs(x) < 1e15 && x == std::floor(x) ? Format("%.0f", x) : Format("%g", x);
}

std::string RangeOf(const Field& field) {
  const bool bounded = std::isfinite(field.max);
  return bounded ? "from " + Number(field.min) + " to " + Number(field.max)
                 : "of at least " + Number(field.min);
}

Result<void> FillInteger(const Field& field, const Setting& setting, int64_t* target) {
  const Json& value = setting.value;
  const bool whole =
      value.is_number_integer() ||
      (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>());  // 1e6
  const double number = value.is_number() ? value.get<double>() : 0.0;
  if (!whole || number < field.min || number > std::min(field.max, 9e15)) {
    return Bad(setting, "= " + DumpJson(value) + " must be a whole number " + RangeOf(field));
  }
  *target = static_cast<int64_t>(number);
  return {};
}

Result<void> FillText(const Field& field, const Setting& setting, std::string* target) {
  if (!setting.value.is_string()) {
    return Bad(setting, "= " + DumpJson(setting.value) + " must be a text in quotes");
  }
  *target = setting.value.get<std::string>();
  const std::vector<std::string>& choices = field.choices;
  if (choices.empty() || std::find(choices.begin(), choices.end(), *target) != choices.end()) {
    return {};
  }
  const std::string guess = ClosestName(*target, choices);
  return Bad(setting, "= " + Quote(*target) + " is none of " + Join(choices, ", "),
             guess.empty() ? "" : "did you mean " + Quote(guess) + "?");
}

Result<void> FillPaths(const Setting& setting, const std::string& folder, Paths* target) {
  const Json list = setting.value.is_array() ? setting.value : Json::array({setting.value});
  target->all.clear();
  for (const Json& item : list) {
    if (!item.is_string() || item.get<std::string>().empty()) {
      return Bad(setting, "= " + DumpJson(setting.value) + " must be a path or a list of paths");
    }
    const auto path = item.get<std::string>();
    const bool relative = setting.in_file && path[0] != '/' && folder != ".";
    target->all.push_back(relative ? folder + "/" + path : path);
  }
  return {};
}

Result<void> FillOne(const Field& field, const Setting& setting, const std::string& folder) {
  if (auto* const* integer = std::get_if<int64_t*>(&field.target)) {
    return FillInteger(field, setting, *integer);
  }
  if (auto* const* real = std::get_if<double*>(&field.target)) {
    const double number = setting.value.is_number() ? setting.value.get<double>() : 0.0;
    if (!setting.value.is_number() || number < field.min || number > field.max) {
      return Bad(setting, "= " + DumpJson(setting.value) + " must be a number " + RangeOf(field));
    }
    **real = number;
    return {};
  }
  if (auto* const* truth = std::get_if<bool*>(&field.target)) {
    if (!setting.value.is_boolean()) {
      return Bad(setting, "= " + DumpJson(setting.value) + " must be true or false");
    }
    **truth = setting.value.get<bool>();
    return {};
  }
  if (auto* const* text = std::get_if<std::string*>(&field.target)) {
    return FillText(field, setting, *text);
  }
  return FillPaths(setting, folder, std::get<Paths*>(field.target));
}

Json ValueOf(const Field& field) {
  if (auto* const* integer = std::get_if<int64_t*>(&field.target)) return **integer;
  if (auto* const* real = std::get_if<double*>(&field.target)) return **real;
  if (auto* const* truth = std::get_if<bool*>(&field.target)) return **truth;
  if (auto* const* text = std::get_if<std::string*>(&field.target)) return **text;
  return std::get<Paths*>(field.target)->all;
}

Error Unknown(const Fields& fields, const Setting& setting) {
  std::vector<std::string> keys, sections;
  for (const Field& field : fields.all) keys.push_back(field.key);
  for (const OpenSection& section : fields.open) {
    for (const std::string& key : section.known) keys.push_back(section.name + "." + key);
  }
  std::string guess = ClosestName(setting.key, keys);
  if (guess.empty()) {  // the right word in a wrong section
    const std::string word = setting.key.substr(setting.key.rfind('.') + 1);
    for (const std::string& key : keys) {
      if (guess.empty() && key.substr(key.rfind('.') + 1) == word) guess = key;
    }
  }
  return Error(
      Code::kBadInput, setting.where + ": there is no key " + Quote(setting.key),
      guess.empty() ? "docs/training.md lists all keys" : "did you mean " + Quote(guess) + "?");
}

Result<void> AddSet(const std::string& set, std::vector<Setting>* all) {
  const size_t equals = set.find('=');
  if (equals == std::string::npos || equals == 0) {
    return Error(Code::kBadInput, "--set " + Quote(set) + " is no KEY=VALUE",
                 "write it as --set train.steps=10");
  }
  Setting setting = {set.substr(0, equals), Json(set.substr(equals + 1)), "--set", false};
  const auto parsed = ParseToml("x = " + set.substr(equals + 1));
  if (parsed.ok() && parsed->size() == 1 && parsed->front().key == "x") {
    setting.value = parsed->front().value;
  }
  const auto same = std::find_if(all->begin(), all->end(),
                                 [&](const Setting& s) { return s.key == setting.key; });
  if (same != all->end()) {
    *same = std::move(setting);
  } else {
    all->push_back(std::move(setting));
  }
  return {};
}

}  // namespace

Result<Settings> Settings::Parse(std::string_view text, const std::string& name,
                                 std::span<const std::string> sets) {
  auto parsed = ParseToml(text);
  if (!parsed.ok()) return std::move(parsed.error().AddContext(name));
  Settings settings;
  settings.folder_ = FolderOf(name);
  for (TomlValue& value : *parsed) {
    settings.all_.push_back({std::move(value.key), std::move(value.value),
                             name + Format(", line %d", value.line), true});
  }
  for (const std::string& set : sets) LODE_TRY(AddSet(set, &settings.all_));
  return settings;
}

Result<Settings> Settings::Read(const std::string& path, std::span<const std::string> sets) {
  LODE_ASSIGN(const std::string text, ReadFile(path, kFileBytesMax));
  return Parse(text, path, sets);
}

const Setting* Settings::Find(std::string_view key) const {
  for (const Setting& setting : all_) {
    if (setting.key == key) return &setting;
  }
  return nullptr;
}

Result<void> Fields::Fill(const Settings& settings) const {
  for (const Setting& setting : settings.all()) {
    const auto field =
        std::find_if(all.begin(), all.end(), [&](const Field& f) { return f.key == setting.key; });
    if (field != all.end()) {
      LODE_TRY(FillOne(*field, setting, settings.folder()));
      continue;
    }
    const size_t dot = setting.key.find('.');
    const auto section = std::find_if(open.begin(), open.end(), [&](const OpenSection& s) {
      return dot != std::string::npos && s.name == setting.key.substr(0, dot);
    });
    if (section == open.end()) return Unknown(*this, setting);
    const std::string key = setting.key.substr(dot + 1);
    if (std::find(section->known.begin(), section->known.end(), key) == section->known.end()) {
      return Unknown(*this, setting);
    }
    (*section->target)[key] = setting.value;
  }
  return {};
}

Json Fields::Values() const {
  Json values = Json::object();
  for (const OpenSection& section : open) {
    values[section.name] = section.target->is_null() ? Json::object() : *section.target;
  }
  for (const Field& field : all) {
    const size_t dot = field.key.find('.');
    values[field.key.substr(0, dot)][field.key.substr(dot + 1)] = ValueOf(field);
  }
  return values;
}

std::string Fields::Markdown() const {
  std::string rows;
  for (const Field& field : all) {
    std::string what = field.what;
    if (!field.choices.empty()) what += ": `" + Join(field.choices, "`, `") + "`";
    rows += "| `" + field.key + "` | `" + DumpJson(ValueOf(field)) + "` | " + what + " |\n";
  }
  return rows;
}

std::vector<Difference> Differences(const Fields& fields, const Json& before) {
  const Json now = fields.Values();
  std::vector<Difference> differences;
  const auto compare = [&](const std::string& section, const std::string& key) {
    const Json* old_section = FindKey(before, section);
    const Json* old_value = old_section == nullptr ? nullptr : FindKey(*old_section, key);
    const Json* new_value = FindKey(now[section], key);
    const std::string old_text = old_value == nullptr ? "nothing" : DumpJson(*old_value);
    const std::string new_text = new_value == nullptr ? "nothing" : DumpJson(*new_value);
    if (old_text != new_text) differences.push_back({section + "." + key, old_text, new_text});
  };
  for (const OpenSection& section : fields.open) {
    for (const std::string& key : section.known) compare(section.name, key);
  }
  for (const Field& field : fields.all) {
    const size_t dot = field.key.find('.');
    if (!field.may_change) compare(field.key.substr(0, dot), field.key.substr(dot + 1));
  }
  return differences;
}

}  // namespace lode::tune
