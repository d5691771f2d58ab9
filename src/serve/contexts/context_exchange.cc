#include "serve/contexts/context_exchange.h"

#include <utility>

#include "serve/contexts/context_json.h"
#include "serve/faults.h"

namespace lode::serve {

void ContextExchange::Begin(Outlet* out) const {
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  out->Begin(std::move(head));
}

void ContextExchange::Advance(Outlet* out) {
  if (ended_) return;
  auto outcome = job_->Take();
  const int64_t progress = job_->progress();
  if (!outcome && (!stream_ || progress <= told_)) return;
  if (!outcome) {
    if (!out->begun()) Begin(out);
    told_ = progress;
    out->Write("data: " +
               DumpJson({{"object", "context.progress"}, {"tokens", told_}, {"total", total_}}) +
               "\n\n");
    return;
  }
  ended_ = true;
  const bool good = outcome->report && outcome->report->ok();
  if (good) {
    const Json body = shape_(**outcome->report);
    tokens_ = (*outcome->report)->context.tokens;
    if (!stream_) return out->Respond({.status = status_, .body = DumpJson(body)});
    if (!out->begun()) Begin(out);
    out->Write("data: " + DumpJson(body) + "\n\ndata: [DONE]\n\n");
    return out->End();
  }
  Fail(outcome->report ? ProblemOf(outcome->report->error()) : ProblemOf(*outcome->failure), out);
}

void ContextExchange::TimedOut(Outlet* out) {
  if (std::exchange(ended_, true)) return;
  Fail({Fault::kDeadline, "it took longer than this server allows"}, out);
}

void ContextExchange::Fail(const Problem& problem, Outlet* out) {
  if (!out->begun()) {
    return out->Respond(ErrorResponse(Dialect::kOpenAi, problem, request_id_));
  }
  out->Write("data: " + DumpJson(ErrorBody(Dialect::kOpenAi, problem, request_id_)) + "\n\n");
  out->End();
}

void ContextExchange::KeepAlive(Outlet* out) {
  if (!stream_ || ended_) return;
  if (!out->begun()) Begin(out);
  out->Write(": all is well\n\n");
}

void ContextExchange::Describe(Json* fields) const {
  (*fields)["stream"] = stream_;
  (*fields)["context_tokens"] = tokens_;
}

void ContextWriter::End(const chat::Usage& usage, std::string* out) {
  Json told = Json::object();
  if (!id_.empty()) told["context"] = id_;
  const runtime::Match* match = answer_->match();
  told["reuse"] = match == nullptr ? Json(nullptr) : ReuseJson(*match, *tokenizer_);
  if (!head_.empty()) {
    Json chunk = head_;
    chunk["choices"] = Json::array();
    chunk["lode"] = std::move(told);
    *out += "data: " + DumpJson(chunk) + "\n\n";
    return inner_->End(usage, out);
  }
  inner_->End(usage, out);
  if (!out->ends_with('}')) return;
  out->pop_back();
  *out += ",\"lode\":" + DumpJson(told) + "}";
}

}  // namespace lode::serve
