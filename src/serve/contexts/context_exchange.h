// A job about contexts on its way to a client: the report at its end, or events of its progress.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "chat/contexts.h"
#include "serve/answer_writer.h"
#include "serve/http/site.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::serve {

// Threads: as Exchange.
class ContextExchange : public Exchange {
 public:
  using Shape = std::function<Json(const chat::ContextReport&)>;
  // `total`: tokens that progress is compared with. `status`: of a good end that is not streamed.
  ContextExchange(std::shared_ptr<chat::ContextJob> job, Shape shape, int status, bool stream,
                  int64_t total, std::string request_id)
      : job_(std::move(job)),
        shape_(std::move(shape)),
        status_(status),
        stream_(stream),
        total_(total),
        request_id_(std::move(request_id)) {}
  ~ContextExchange() override { job_->Forget(); }

  void Advance(Outlet* out) override;
  void KeepAlive(Outlet* out) override;
  void TimedOut(Outlet* out) override;
  void Describe(Json* fields) const override;

 private:
  void Fail(const Problem& problem, Outlet* out);
  void Begin(Outlet* out) const;

  std::shared_ptr<chat::ContextJob> job_;
  Shape shape_;
  int status_;
  bool stream_;
  int64_t total_, told_ = 0, tokens_ = 0;
  std::string request_id_;
  bool ended_ = false;
};

// What an answer reused, and the context that it went on from, beside a dialect's own shape: a
// field `lode` of whole bodies, an event without choices before the end of streams.
class ContextWriter : public AnswerWriter {
 public:
  // `answer` is that which is written. `head`: fields that each chunk of a stream has; empty: a
  // whole body. `id`: of the context; empty: none.
  ContextWriter(std::unique_ptr<AnswerWriter> inner, const chat::Answer* answer, Json head,
                std::string id, const text::Tokenizer* tokenizer)
      : inner_(std::move(inner)),
        answer_(answer),
        head_(std::move(head)),
        id_(std::move(id)),
        tokenizer_(tokenizer) {}

  void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) override {
    inner_->Add(event, usage, out);
  }
  void End(const chat::Usage& usage, std::string* out) override;
  void KeepAlive(std::string* out) override { inner_->KeepAlive(out); }
  void Fail(const Problem& problem, const std::string& request_id, std::string* out) override {
    inner_->Fail(problem, request_id, out);
  }

 private:
  std::unique_ptr<AnswerWriter> inner_;
  const chat::Answer* answer_;
  Json head_;
  std::string id_;
  const text::Tokenizer* tokenizer_;
};

}  // namespace lode::serve
