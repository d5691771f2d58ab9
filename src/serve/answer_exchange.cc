#include "serve/answer_exchange.h"

#include <utility>

namespace lode::serve {

AnswerExchange::AnswerExchange(std::unique_ptr<chat::Answer> answer,
                               std::unique_ptr<AnswerWriter> writer, AnswerRoute route,
                               Metrics* metrics)
    : answer_(std::move(answer)),
      writer_(std::move(writer)),
      route_(std::move(route)),
      metrics_(metrics) {}

AnswerExchange::~AnswerExchange() {
  record_.usage = answer_->usage();
  metrics_->CountUsage(record_.usage, &counted_);
  record_.times = answer_->times();
  record_.abandoned = !ended_;
  record_.unknown_calls = answer_->unknown_calls();
  metrics_->CountAnswer(record_);
}

void AnswerExchange::BeginStream(Outlet* out) const {
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  out->Begin(std::move(head));
}

void AnswerExchange::Advance(Outlet* out) {
  bool more = true;
  while (more && !ended_ && !out->full()) {
    events_.clear();
    text_.clear();
    more = answer_->Poll(&events_);
    if (!events_.empty()) metrics_->CountUsage(answer_->usage(), &counted_);
    for (const chat::AnswerEvent& event : events_) {
      if (event.kind == chat::AnswerEvent::Kind::kQueued) continue;
      if (event.kind == chat::AnswerEvent::Kind::kFailed) {
        if (route_.stream && out->begun()) out->Write(text_);
        return Fail(ProblemOf(*event.failure), out);
      }
      if (event.kind == chat::AnswerEvent::Kind::kFinished) {
        ++record_.finished[text::FinishReasonName(event.finish)];
      }
      writer_->Add(event, answer_->usage(), &text_);
    }
    if (route_.stream && !text_.empty() && !out->begun()) BeginStream(out);
    if (answer_->done()) {
      ended_ = true;
      writer_->End(answer_->usage(), &text_);
      if (!route_.stream) return out->Respond({.body = std::move(text_)});
    }
    if (route_.stream) out->Write(text_);
    if (ended_) return out->End();
  }
}

// Before anything was sent the failure is a status; after that it is an event.
void AnswerExchange::Fail(const Problem& problem, Outlet* out) {
  ended_ = true;
  ++record_.finished["error"];
  if (!out->begun()) {
    return out->Respond(ErrorResponse(route_.dialect, problem, route_.request_id));
  }
  text_.clear();
  writer_->Fail(problem, route_.request_id, &text_);
  out->Write(text_);
  out->End();
}

// Who waits long for a place, or for a long prompt, must not hear nothing. A response that is one
// whole object has nothing to say before its end.
void AnswerExchange::KeepAlive(Outlet* out) {
  if (!route_.stream || ended_) return;
  if (!out->begun()) BeginStream(out);
  std::string text;
  writer_->KeepAlive(&text);
  out->Write(text);
}

void AnswerExchange::TimedOut(Outlet* out) {
  if (ended_) return;
  answer_->Cancel();
  Fail({Fault::kDeadline, "the answer took longer than this server allows"}, out);
}

void AnswerExchange::Describe(Json* fields) const {
  const chat::Usage& usage = answer_->usage();
  (*fields)["stream"] = route_.stream;
  (*fields)["prompt_tokens"] = usage.prompt;
  (*fields)["cached_tokens"] = usage.cached;
  (*fields)["completion_tokens"] = usage.completion;
  if (usage.reasoning > 0) (*fields)["reasoning_tokens"] = usage.reasoning;
}

}  // namespace lode::serve
