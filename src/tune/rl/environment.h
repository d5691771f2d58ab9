// Who judges an answer: verifiers that look at the text alone and cost nothing to ask.
//   exact   the answer is the expected text, blanks around it aside
//   math    its last \boxed{...}, what stands behind the last ####, or its last number, is the
//           expected number, as an exact fraction: 0.5 = 1/2 = .50, 1,000 = 1000
//   json    it is the expected JSON: keys in any order, blanks do not count
//   json_schema   it is JSON that the task's "schema" admits, as src/text/grammar enforces schemas
//   instructions  the share of the task's "constraints" that it meets
// Threads: const, free for all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace lode::tune {

// What an answer got. One that could not be judged teaches nothing and spoils no mean.
struct Verdict {
  double reward = 0.0;  // 0 to 1
  bool valid = true;
};

class Environment {
 public:
  virtual ~Environment() = default;
  // Whether a task says all that judging takes. Errors: kBadInput that names the key.
  virtual Result<void> Check(const Json& task) const = 0;
  virtual Verdict Judge(const Json& task, std::string_view answer) const = 0;
};

// Errors: kBadInput that lists the names.
Result<const Environment*> FindEnvironment(const std::string& name);
// Those of environment_json.cc and environment_instructions.cc.
const Environment& JsonEnvironment();
const Environment& JsonSchemaEnvironment();
const Environment& InstructionsEnvironment();

// Without blanks around it.
std::string_view TrimBlanks(std::string_view text);

// A number as a fraction in lowest terms, its denominator positive.
struct Fraction {
  int64_t over = 0, under = 1;
  bool operator==(const Fraction&) const = default;
};
// "12", "-1,000", "3/4", "0.25", ".5", "50%", "$7"; nothing for anything else, or what no 64 bits
// hold.
std::optional<Fraction> ParseFraction(std::string_view text);
// Where an answer says its result; empty: nowhere.
std::string_view FinalAnswer(std::string_view text);

}  // namespace lode::tune
