// Post-processors: which ids stand around an encoded text when special tokens are asked for.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace lode::text {

class PostProcessor {
 public:
  // `json` may be null: nothing around. Errors: kUnsupported naming the type, kBadInput when the
  // template names a token that it does not define.
  static Result<PostProcessor> Create(const Json& json);
  // A text between fixed ids.
  static PostProcessor Around(std::vector<int32_t> before, std::vector<int32_t> behind);

  // Every id it can put in, to be checked against the vocabulary.
  std::vector<int32_t> Ids() const;
  std::vector<int32_t> Apply(std::vector<int32_t> ids, bool add_special) const;

 private:
  static constexpr int32_t kText = -1;
  Result<void> Append(const Json& json);
  // Each step: ids, and kText where what the steps before made goes.
  std::vector<std::vector<int32_t>> steps_;
};

}  // namespace lode::text
