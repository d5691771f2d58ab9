// From a request to the model's prompt: template -> text -> token ids, and the offsets of these ids
// from which later requests will go on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "runtime/tree/prefix_tree.h"
#include "text/template/chat_template.h"
#include "text/template/request.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::chat {

struct PromptOptions {
  std::string bos, eos;          // as the template wants them
  bool special_in_input = true;  // control tokens written in messages become control tokens
};

struct Prompt {
  std::string text;
  std::vector<int32_t> ids;
  bool thinking = false;  // it ends inside an opened trace
};

// Life: tokenizer and template outlive it. Threads: free for all.
class PromptMaker {
 public:
  PromptMaker(const text::Tokenizer* tokenizer, const text::ChatTemplate* chat_template,
              PromptOptions options);

  // `request`: "messages", "tools", any variable of the template (text/template/request.h).
  // Errors: a request that the template refuses.
  Result<Prompt> Make(const Json& request) const;

  // `request`, of whose messages the first `known` stand as `tokens` already: these as they are,
  // and behind them what the template writes after those messages. `open`: the tokens end with an
  // answer that is not closed yet. Errors: also kUnsupported for templates that write the known
  // messages anew when others follow.
  Result<Prompt> Continue(const Json& request, int64_t known, bool open,
                          const std::vector<int32_t>& tokens) const;

  // Where later prompts will part from `prompt`, which `request` became, as the template itself
  // says: it renders what may come next. A request that it refuses tells nothing.
  std::vector<runtime::Probe> FindProbes(const Json& request, const Prompt& prompt) const;

  const PromptOptions& options() const { return options_; }

 private:
  Result<text::RenderedPrompt> Render(const Json& request) const;
  Result<std::vector<int32_t>> Encode(const text::RenderedPrompt& prompt) const;
  bool EndsWithToken(std::string_view text, int32_t token) const;
  Result<int64_t> CommonTokens(const Prompt& prompt, const text::RenderedPrompt& other) const;

  const text::Tokenizer* tokenizer_;
  const text::ChatTemplate* template_;
  PromptOptions options_;
};

}  // namespace lode::chat
