// What a server offers, without a wire format: typed requests in, answers out (chat/answer.h). All
// dialects lower to these two requests, so they share the parsers, the counts and the rules.
//
// Any thread may call; the calling one renders, tokenizes and looks for the offsets from which
// later prompts will go on. The backend's thread only makes tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "chat/answer.h"
#include "chat/answer_constraint.h"
#include "chat/backend.h"
#include "chat/contexts.h"
#include "chat/origin.h"
#include "chat/prompt.h"
#include "text/template/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::chat {

using Sampling = runtime::SamplingOptions;

// How an answer is drawn and when it ends.
struct AnswerRules {
  // Empty: the model's defaults; a seed that is not given is drawn.
  std::optional<double> temperature, top_p, min_p, typical_p;
  std::optional<double> repetition_penalty, frequency_penalty, presence_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  std::vector<runtime::LogitBias> logit_bias;
  int64_t logprobs = -1;         // below 0: none; of the chosen token and of so many likeliest ones
  int64_t tokens_max = -1;       // below 0: until the context is full
  int64_t tokens_min = 0;        // before so many no stop token is drawn
  bool prompt_logprobs = false;  // with `logprobs`: of the prompt's tokens, too
  bool pool = false;             // the mean of the prompt's hidden rows
  int choices = 1;
  std::vector<std::string> stops;
  bool include_stop = false;
  std::vector<int32_t> stop_ids;  // besides the model's own
  bool ignore_eos = false;        // the model's own do not end an answer
  bool skip_special = true;       // control tokens leave no text
};

enum class ToolChoice : uint8_t { kAuto, kNone, kRequired, kNamed };

struct ChatRequest {
  // "messages", "tools", "add_generation_prompt", any variable of the template.
  Json template_request = Json::object();
  ToolChoice tool_choice = ToolChoice::kAuto;
  std::string tool_name;  // kNamed
  std::vector<std::string> allowed_tools;  // of the request's tools; empty: all
  bool parallel_calls = true;
  // What the answer must look like: as AnswerForm's.
  Json response_format = nullptr;
  std::string effort;  // of reasoning: empty, none, minimal, low, medium, high, xhigh, max
  int64_t thinking_tokens_max = -1;  // below 0: as long as it likes
  AnswerRules rules;
  Origin origin;
  // The context that this goes on from, whose messages are the first of `template_request`'s; null:
  // none. It takes one choice.
  std::shared_ptr<ContextTurn> turn = nullptr;
};

struct CompletionRequest {
  std::vector<int32_t> prompt;
  std::shared_ptr<ContextTurn> turn = nullptr;  // whose tokens are the first of the prompt
  std::string said;  // what scripts look at
  Json response_format = nullptr;  // as of a ChatRequest
  AnswerRules rules;
  Origin origin;
};

// Makes the constraint under which a request is answered; null: none. Errors: what cannot be
// enforced.
using ConstraintMaker = std::function<Result<std::shared_ptr<runtime::Constraint>>(
    const ChatRequest& request, const Prompt& prompt)>;

struct ServiceOptions {
  PromptOptions prompt;
  std::vector<int32_t> stop_ids;
  Sampling sampling;  // the model's defaults
  int choices_max = 128;
  // How the model writes calls and thinking; absent: as its template shows.
  std::optional<text::OutputFormat> output_format = {};
  bool scripted = false;       // nothing is enforced: a script plays what it plays
  ConstraintMaker constraint;  // null: by AnswerForms
};

class Service {
 public:
  // `chat_template` may be null: then only completions are answered. All must outlive the service.
  Service(Backend* backend, const text::Tokenizer* tokenizer,
          const text::ChatTemplate* chat_template, ServiceOptions options);

  // `wake` is called on another thread when an answer has something to read (AnswerQueue).
  // Errors: kBadInput for what template, sampling or tokenizer refuse; kUnsupported; kNoSpace when
  // the prompt can never fit (its sentence has the numbers).
  Result<std::unique_ptr<Answer>> Chat(const ChatRequest& request, std::function<void()> wake);
  // One answer to several prompts: choice i is of prompt i / choices.
  Result<std::unique_ptr<Answer>> Complete(const std::vector<CompletionRequest>& requests,
                                           std::function<void()> wake);
  // The prompt that a request becomes, for those who count or show it.
  Result<Prompt> Render(const ChatRequest& request) const;
  // What a context is made of: the request's messages, not opened for an answer, and the offsets
  // from which later prompts will go on.
  struct Beginning {
    std::vector<int32_t> tokens;
    std::shared_ptr<const Json> dialogue;
    std::vector<runtime::Probe> probes;
  };
  Result<Beginning> RenderBeginning(const ChatRequest& request) const;

  // Variables of the request that the template never reads.
  std::vector<std::string> UnusedVariables(const ChatRequest& request) const;

  Backend& backend() { return *backend_; }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  bool has_template() const { return template_ != nullptr; }
  const ServiceOptions& options() const { return options_; }
  int64_t context_max() const { return backend_->sequence_tokens_max(); }

 private:
  Json TemplateRequest(const ChatRequest& request) const;
  Result<Prompt> Render(const Json& variables) const;
  Result<Prompt> PromptOf(const ChatRequest& request, const Json& variables) const;
  void ApplyEffort(const std::string& effort, Json* request) const;
  Result<TokenRequest> MakeRequest(const AnswerRules& rules, const Origin& origin,
                                   std::vector<int32_t> prompt) const;
  Result<void> CheckLength(size_t prompt) const;
  Result<std::shared_ptr<runtime::Constraint>> Constrain(const ChatRequest& request,
                                                         const Prompt& prompt) const;

  Backend* backend_;
  const text::Tokenizer* tokenizer_;
  const text::ChatTemplate* template_;
  ServiceOptions options_;
  std::optional<PromptMaker> maker_;
  std::unique_ptr<AnswerForms> forms_;
  text::OutputFormat format_ = text::OutputFormat::kXml;
};

}  // namespace lode::chat
