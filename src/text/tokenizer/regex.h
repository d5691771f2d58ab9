// Regular expressions of tokenizer files, through PCRE2 (the only file that knows it). The files are
// written for Oniguruma's Ruby syntax; Compile translates what PCRE2 reads differently (\s, \w, \d,
// \h, (?m)) and refuses what it cannot translate (class intersections, nested classes, a '+' behind
// an interval) rather than match something else.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lode::text {

struct Span {
  size_t begin;
  size_t end;
  bool is_match;
};

// Threads: const calls are free for all. Life: owns the compiled code.
class Regex {
 public:
  static Result<std::unique_ptr<Regex>> Compile(std::string_view pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Cuts valid UTF-8 into matches and the gaps between them, in order; they tile the text.
  // Errors: kNoSpace when an expression needs more steps or time than any sane one does.
  Result<void> Split(std::string_view text, std::vector<Span>* spans) const;

 private:
  struct Code;
  Regex(std::string pattern, std::unique_ptr<Code> code);

  std::string pattern_;
  std::unique_ptr<Code> code_;
};

}  // namespace lode::text
