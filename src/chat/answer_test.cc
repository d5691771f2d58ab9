#include "chat/answer.h"

#include <gtest/gtest.h>

#include "chat/fake_answers.h"

namespace lode::chat {
namespace {

struct Told {
  std::string content, reasoning, stop_string;
  text::FinishReason finish = text::FinishReason::kStop;
  std::vector<int32_t> reported;
  int finished = 0;
};

// The events of all choices; `asked` tokens at a time.
std::vector<Told> Read(Answer* answer, int choices, int64_t asked = 3) {
  std::vector<AnswerEvent> events;
  while (answer->Poll(&events, asked)) {
  }
  std::vector<Told> told(static_cast<size_t>(choices));
  for (const AnswerEvent& event : events) {
    Told& own = told[static_cast<size_t>(event.choice)];
    for (const TokenReport& report : event.reports) own.reported.push_back(report.token);
    if (event.kind == AnswerEvent::Kind::kOutput) {
      const bool trace = event.output.kind == text::OutputEvent::Kind::kReasoning;
      (trace ? own.reasoning : own.content) += event.output.text;
    }
    if (event.kind != AnswerEvent::Kind::kFinished) continue;
    ++own.finished;
    own.finish = event.finish;
    own.stop_string = event.stop_string;
  }
  return told;
}

class AnswerTest : public testing::Test {
 protected:
  std::vector<Told> Play(const std::string& text, AnswerOptions options, size_t cut = 0) {
    backend_ = FakeBackend();
    backend_.tokens = EncodeCut(*tokenizer_, text, cut);
    Answer answer(&backend_, tokenizer_.get(), options, nullptr);
    for (int i = 0; i < options.choices; ++i) answer.Submit(i, {});
    auto told = Read(&answer, options.choices);
    EXPECT_TRUE(answer.done());
    usage_ = answer.usage();
    return told;
  }

  std::unique_ptr<text::Tokenizer> tokenizer_ = DemoTokenizer(LODE_SOURCE_DIR);
  FakeBackend backend_;
  Usage usage_;
};

TEST_F(AnswerTest, TextComesOutAsItWentIn) {
  AnswerOptions options;
  options.parsing.thinking = false;
  options.prompt_tokens = 7;
  const Told told = Play("Hello, ☃ wörld 🙂.", options)[0];
  EXPECT_EQ(told.content, "Hello, ☃ wörld 🙂.");
  EXPECT_EQ(told.finished, 1);
  EXPECT_EQ(usage_.prompt, 7);
  EXPECT_EQ(usage_.completion, static_cast<int64_t>(backend_.tokens.size()));
  EXPECT_EQ(usage_.reasoning, 0);
}

TEST_F(AnswerTest, AStopStringEndsTheAnswerWhereverTokensAreCut) {
  const std::string text = "one two STOP three";
  AnswerOptions options;
  options.parsing.thinking = false;
  options.stops = {"STOP", "xyz"};
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const Told told = Play(text, options, cut)[0];
    EXPECT_EQ(told.content, "one two ") << cut;
    EXPECT_EQ(told.stop_string, "STOP") << cut;
    EXPECT_EQ(told.finish, text::FinishReason::kStop);
    EXPECT_EQ(told.finished, 1);
    EXPECT_EQ(backend_.cancelled, 1) << "the model must not go on";
  }
}

TEST_F(AnswerTest, WhatOnlyBeginsLikeAStopStringIsGivenOutAtTheEnd) {
  AnswerOptions options;
  options.parsing.thinking = false;
  options.stops = {"STOP"};
  EXPECT_EQ(Play("no STO", options)[0].content, "no STO");
  options.parse = false;
  EXPECT_EQ(Play("no STO", options)[0].content, "no STO");
}

TEST_F(AnswerTest, AStopStringInTheTraceIsNotSeen) {
  AnswerOptions options;
  options.stops = {"STOP"};
  const Told told = Play("hm STOP hm</think>\nright STOP wrong", options)[0];
  EXPECT_EQ(told.reasoning, "hm STOP hm");
  EXPECT_EQ(told.content, "right ");
}

TEST_F(AnswerTest, TokensOfTheTraceAreCountedApart) {
  AnswerOptions options;
  const Told told = Play("a long thought</think>\nshort", options)[0];
  EXPECT_EQ(told.content, "short");
  EXPECT_GT(usage_.reasoning, 3);
  EXPECT_LT(usage_.reasoning, usage_.completion);
}

TEST_F(AnswerTest, EveryTokenOfTheAnswerIsReportedOnce) {
  AnswerOptions options;
  options.parsing.thinking = false;
  const Told told = Play("What, ☃ 🙂 then?", options)[0];
  EXPECT_EQ(told.reported, backend_.tokens);
}

TEST_F(AnswerTest, ChoicesAreKeptApart) {
  AnswerOptions options;
  options.parsing.thinking = false;
  options.choices = 3;
  const auto told = Play("same words", options);
  for (const Told& own : told) {
    EXPECT_EQ(own.content, "same words");
    EXPECT_EQ(own.finished, 1);
  }
  EXPECT_EQ(usage_.completion, 3 * static_cast<int64_t>(backend_.tokens.size()));
}

TEST_F(AnswerTest, AnAnswerThatIsDroppedIsCancelled) {
  class Silent : public FakeBackend {
   public:
    Result<Ticket> Submit(TokenRequest, std::shared_ptr<TokenSink> sink) override {
      kept = std::move(sink);
      return ++submitted;
    }
    std::shared_ptr<TokenSink> kept;
  } silent;
  {
    Answer answer(&silent, tokenizer_.get(), {}, nullptr);
    answer.Submit(0, {});
  }
  EXPECT_EQ(silent.cancelled, 1);
  silent.kept->Push({});  // nobody reads it, and nothing breaks
}

TEST_F(AnswerTest, AFullInboxIsAFailureThatSaysSo) {
  class Full : public FakeBackend {
   public:
    Result<Ticket> Submit(TokenRequest, std::shared_ptr<TokenSink>) override {
      return Error(Code::kNoSpace, "too many");
    }
  } full;
  Answer answer(&full, tokenizer_.get(), {}, nullptr);
  answer.Submit(0, {});
  std::vector<AnswerEvent> events;
  answer.Poll(&events);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, AnswerEvent::Kind::kFailed);
  EXPECT_EQ(events[0].failure->cause, Cause::kQueueFull);
  EXPECT_TRUE(answer.done());
}

}  // namespace
}  // namespace lode::chat
