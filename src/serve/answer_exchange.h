// An answer on its way to a client, in any dialect, streamed or whole.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chat/answer.h"
#include "serve/answer_writer.h"
#include "serve/http/site.h"
#include "serve/metrics.h"

namespace lode::serve {

struct AnswerRoute {
  Dialect dialect = Dialect::kOpenAi;
  bool stream = false;
  std::string request_id;
  std::string model;
};

// Life: `metrics` outlives it. Threads: as Exchange.
class AnswerExchange : public Exchange {
 public:
  AnswerExchange(std::unique_ptr<chat::Answer> answer, std::unique_ptr<AnswerWriter> writer,
                 AnswerRoute route, Metrics* metrics);
  ~AnswerExchange() override;

  void Advance(Outlet* out) override;
  void KeepAlive(Outlet* out) override;
  void TimedOut(Outlet* out) override;
  void Describe(Json* fields) const override;

 private:
  void BeginStream(Outlet* out) const;
  void Fail(const Problem& problem, Outlet* out);

  std::unique_ptr<chat::Answer> answer_;
  std::unique_ptr<AnswerWriter> writer_;
  AnswerRoute route_;
  Metrics* metrics_;
  AnswerRecord record_;
  chat::Usage counted_;  // what the metrics know already
  std::vector<chat::AnswerEvent> events_;
  std::string text_;
  bool ended_ = false;
};

}  // namespace lode::serve
