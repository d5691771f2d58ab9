// The settings of a run: what its file and the command line say, and a table of the keys that a
// recipe has. The table is what values are checked with, what a wrong key is compared with, and
// what docs/training.md lists.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace lode::tune {

struct Setting {
  std::string key;  // "train.steps"
  Json value;
  std::string where;  // "run.toml, line 3", "--set"
  bool in_file = false;
};

class Settings {
 public:
  // A file, then `sets` ("train.steps=10") over it: the right side is a TOML value, or else a text.
  // Errors: those of the file; kBadInput for what is no TOML, by file, line and column.
  static Result<Settings> Read(const std::string& path, std::span<const std::string> sets);
  static Result<Settings> Parse(std::string_view text, const std::string& name,
                                std::span<const std::string> sets);

  const std::vector<Setting>& all() const { return all_; }
  const Setting* Find(std::string_view key) const;
  // The folder that paths written in the file are relative to.
  const std::string& folder() const { return folder_; }

 private:
  std::vector<Setting> all_;
  std::string folder_ = ".";
};

// A text that names files: relative to the settings' file where it stands there.
struct Paths {
  std::vector<std::string> all;
};

// One key of a recipe.
struct Field {
  std::string key;
  std::variant<int64_t*, double*, bool*, std::string*, Paths*> target;
  std::string what;  // for people: a phrase
  double min = 0.0;  // of numbers
  double max = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices = {};  // of texts; empty: any
  // A run that goes on may have another value: nothing that was computed depends on it.
  bool may_change = false;

  Field& Range(double from, double to) {
    min = from;
    max = to;
    return *this;
  }
  Field& OneOf(std::vector<std::string> texts) {
    choices = std::move(texts);
    return *this;
  }
  Field& MayChange() {
    may_change = true;
    return *this;
  }
};

// A section that is not ours to know: its values become one object. Keys other than `known` are
// refused.
struct OpenSection {
  std::string name;  // "model"
  Json* target;
  std::vector<std::string> known;
};

// Life: the targets outlive it.
struct Fields {
  std::vector<Field> all;
  std::vector<OpenSection> open;

  // `key` is "section.name".
  template <typename T>
  Field& Add(std::string key, T* target, std::string what) {
    return all.emplace_back(Field{std::move(key), target, std::move(what)});
  }

  // Sets every target that a setting names. Errors: kBadInput with the place of the setting: a key
  // that there is not, with the nearest one; a value of another type or out of its range.
  Result<void> Fill(const Settings& settings) const;
  // All keys with their values as they are now, nested by section.
  Json Values() const;
  // The rows of a table in Markdown: key, default, meaning.
  std::string Markdown() const;
};

// The first key whose value differs between two Values(), among those that may not change; empty:
// none.
struct Difference {
  std::string key, before, now;
};
std::vector<Difference> Differences(const Fields& fields, const Json& before);

}  // namespace lode::tune
