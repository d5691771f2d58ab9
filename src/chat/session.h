// One dialogue with a model: request -> template -> tokens -> engine -> whole UTF-8 -> events.
// Life: engine, tokenizer and template outlive it. Threads: the engine's owner.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "chat/prompt.h"
#include "runtime/generate.h"
#include "text/parsers/output_parser.h"
#include "text/template/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::chat {

struct SessionOptions {
  std::string bos, eos;          // as the template wants them
  bool special_in_input = true;  // control tokens written in messages become control tokens
  runtime::SchedulerOptions scheduling = {};
  // How the model writes calls and thinking; absent: as its template shows.
  std::optional<text::OutputFormat> output_format = {};
};

struct Reply {
  text::ParsedOutput output;
  text::FinishReason finish = text::FinishReason::kStop;
  runtime::GenerateReport report;
};

class Session {
 public:
  Session(runtime::Engine* engine, const text::Tokenizer* tokenizer,
          const text::ChatTemplate* chat_template, SessionOptions options);

  // Answers `request` ("messages", "tools", any variable of the template). Events come as they happen.
  // Errors: a request that the template refuses; those of the engine.
  Result<Reply> Ask(const Json& request, const runtime::GenerateOptions& options,
                    const std::function<void(const text::OutputEvent&)>& on_event);

  // The messages of the last request, of a dialogue that another process began.
  void GoOnFrom(Json messages) { messages_ = std::move(messages); }

  // Prompt and answer of the last request, as token ids.
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::vector<runtime::Probe>& probes() const { return probes_; }  // of the last request
  runtime::Scheduler& scheduler() { return conversation_.scheduler(); }

 private:
  void ExplainReuse(const Json& request, runtime::Match* match);

  const text::Tokenizer* tokenizer_;
  PromptMaker maker_;
  text::OutputFormat format_;
  runtime::Conversation conversation_;
  std::vector<int32_t> tokens_;
  std::vector<runtime::Probe> probes_;
  Json messages_;  // of the last request
  uint64_t answers_ = 0;
};

}  // namespace lode::chat
