// Normalizers: text -> text before it is cut. Built from the "normalizer" of a tokenizer.json.
// Then read-only and free for all threads.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace lode::text {

// Replaces every match of a pattern (literal or expression) by fixed text; also a decoder's step.
class Regex;
class Replacer {
 public:
  // `json`: {"pattern": {"String": ..} or {"Regex": ..}, "content": ..}.
  static Result<Replacer> Create(const Json& json);
  Replacer(Replacer&&) noexcept;
  Replacer& operator=(Replacer&&) noexcept;
  ~Replacer();

  Result<std::string> Apply(std::string_view text) const;

 private:
  Replacer();
  std::string literal_;
  std::unique_ptr<Regex> regex_;
  std::string content_;
};

class Normalizer {
 public:
  // `json` may be null: no change. Errors: kUnsupported naming the type.
  static Result<Normalizer> Create(const Json& json);
  Normalizer();
  Normalizer(Normalizer&&) noexcept;
  Normalizer& operator=(Normalizer&&) noexcept;
  ~Normalizer();

  bool empty() const { return steps_.empty(); }
  // Valid UTF-8 in and out.
  Result<std::string> Apply(std::string_view text) const;

 private:
  struct Step;
  Result<void> Append(const Json& json, int depth);
  std::vector<Step> steps_;
};

}  // namespace lode::text
