// What else is made of hidden rows: texts that are known to their end go on without a step, several
// answers to one prompt compute it once, and what a model says of a prompt is said.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/serving.h"

namespace lode::runtime {
namespace {

const model::Model& SmallModel() {
  static const std::unique_ptr<model::Model> model = LoadGolden("moe-nano");
  return *model;
}

struct Room {
  int64_t pages = 60, states = 24;
  int64_t rows_max = 64, chunk_rows = 0;
  int64_t running_max = 8;
};

Serving Serve(const Room& room = {}) {
  EngineOptions engine;
  engine.rows_max = room.rows_max;
  engine.sequences_max = room.states;
  engine.context_tokens = std::max<int64_t>(1, room.pages - room.states + 1) * kTokensPerPage;
  SchedulerOptions options;
  options.running_max = room.running_max;
  options.chunk_rows = room.chunk_rows;
  options.answer_tokens = 2;
  options.progress_min = 16;
  return {SmallModel(), engine, options};
}

std::vector<Token> Text(uint32_t seed, size_t length) {
  std::mt19937 random(seed);
  std::vector<Token> text;
  while (text.size() < length) text.push_back(static_cast<Token>(random() % 288));
  return text;
}

struct Answer {
  std::vector<Token> text;
  Match match;
  std::vector<std::pair<int64_t, double>> judged;  // tokens and their log-probabilities
  std::vector<int64_t> ranks;
  std::vector<TokenLogprob> likeliest;             // of all, one after another
  std::vector<float> pooled;
  int64_t starts = 0;
};

// Runs all of them together; `late` ones come after twenty steps.
std::vector<Answer> AnswerAll(Serving* serving, const std::vector<Request>& requests,
                              const std::vector<Request>& late = {}) {
  std::map<RequestId, Answer> answers;
  const auto submit = [&](const std::vector<Request>& some) {
    for (const Request& request : some) {
      const auto id = serving->scheduler->Submit(request);
      EXPECT_TRUE(id.ok()) << id.error().ToString();
      answers[*id] = {};
    }
  };
  submit(requests);
  int steps = 0;
  while (serving->Step([&](const Event& event) {
    Answer& answer = answers.at(event.request);
    switch (event.kind) {
      case Event::Kind::kStarted:
        if (++answer.starts == 1) answer.match = event.match;
        return;
      case Event::Kind::kPromptToken:
        answer.judged.push_back({event.tokens, event.sampled.logprob});
        answer.ranks.push_back(event.sampled.rank);
        answer.likeliest.insert(answer.likeliest.end(), event.sampled.likeliest.begin(),
                                event.sampled.likeliest.end());
        return;
      case Event::Kind::kPooled:
        EXPECT_TRUE(answer.pooled.empty());
        answer.pooled.assign(event.pooled.begin(), event.pooled.end());
        return;
      case Event::Kind::kToken:
        answer.text.push_back(event.sampled.token);
        return;
      case Event::Kind::kFailed:
        ADD_FAILURE() << event.error->ToString();
        return;
      case Event::Kind::kProgress:
      case Event::Kind::kFinished:
        return;
    }
  })) {
    if (++steps == 20) submit(late);
  }
  serving->ExpectNothingLeft();
  std::vector<Answer> all;
  for (auto& [id, answer] : answers) all.push_back(std::move(answer));
  return all;
}

Request Ask(std::vector<Token> prompt, int64_t answer, uint64_t seed = 0) {
  Request request;
  request.prompt = std::move(prompt);
  request.tokens_max = answer;
  request.sampling.temperature = 1.0;
  request.sampling.seed = seed;
  return request;
}

// --- Known to the end ----------------------------------------------------------------------------

TEST(KnownToTheEnd, SeveralAnswersToOnePromptComputeItOnce) {
  for (const size_t length : {5u, 100u, 128u, 300u}) {
    const std::vector<Token> prompt = Text(1, length);
    std::vector<Request> requests;
    std::vector<Answer> alone;
    for (uint64_t seed = 0; seed < 4; ++seed) {
      requests.push_back(Ask(prompt, 5, seed));
      Serving one = Serve();
      alone.push_back(AnswerAll(&one, {requests.back()})[0]);
    }
    Serving serving = Serve();
    const auto answers = AnswerAll(&serving, requests);
    const bool parked = length > 64;  // nearer to its beginning nobody waits
    int64_t computed = 0;
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(answers[i].text, alone[i].text);
      computed += answers[i].match.computed();
      if (parked && i > 0) {
        EXPECT_EQ(answers[i].match.computed(), 0) << length;
      }
    }
    EXPECT_NE(answers[0].text, answers[1].text);
    if (parked) {
      EXPECT_EQ(computed, static_cast<int64_t>(length));
      // The prompt, and of each answer all but the last token.
      EXPECT_EQ(serving.scheduler->rows(), computed + 4 * 4);
    }
  }
}

TEST(KnownToTheEnd, ARepeatedPromptIsAnsweredWithoutAStepForIt) {
  for (const size_t length : {1u, 40u, 128u, 257u}) {
    Serving serving = Serve();
    const Request request = Ask(Text(2, length), 6);
    const Answer first = AnswerAll(&serving, {request})[0];
    const int64_t rows = serving.scheduler->rows();
    const Answer again = AnswerAll(&serving, {request})[0];
    EXPECT_EQ(again.text, first.text);
    EXPECT_EQ(again.match.computed(), 0) << length;
    EXPECT_EQ(again.match.reason, Reason::kComplete);
    EXPECT_EQ(serving.scheduler->rows() - rows, 5);
    // And one that wants nothing but the first token takes none.
    Request one = request;
    one.tokens_max = 1;
    EXPECT_EQ(AnswerAll(&serving, {one})[0].text, std::vector<Token>{first.text[0]});
    EXPECT_EQ(serving.scheduler->rows() - rows, 5);
  }
}

TEST(KnownToTheEnd, ManyThatAreKnownStartTogetherThoughAStepHasFewRows) {
  Room room;
  room.rows_max = 3;
  Serving serving = Serve(room);
  std::vector<Request> requests;
  for (uint32_t i = 0; i < 7; ++i) requests.push_back(Ask(Text(40 + i, 20), 3, i));
  std::vector<std::vector<Token>> texts;
  for (const Request& request : requests) texts.push_back(AnswerAll(&serving, {request})[0].text);
  const auto again = AnswerAll(&serving, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(again[i].match.computed(), 0);
    EXPECT_EQ(again[i].text, texts[i]);
  }
}

// Room for a few states only: what a repeated prompt saves is then not worth another's.
TEST(KnownToTheEnd, WithoutRoomForItNothingIsKeptThatWasNotBefore) {
  Room room;
  room.pages = 12;
  room.states = 4;
  room.running_max = 2;
  Serving serving = Serve(room);
  for (uint32_t i = 0; i < 40; ++i) {
    const Request request = Ask(Text(i % 5, 60 + 20 * (i % 3)), 4);
    Serving fresh = Serve();
    EXPECT_EQ(AnswerAll(&serving, {request})[0].text, AnswerAll(&fresh, {request})[0].text);
  }
}

// --- What the model says of a prompt -------------------------------------------------------------

struct Cold {
  std::vector<Sampled> judged;  // of tokens 1, 2, ..
  std::vector<std::vector<TokenLogprob>> likeliest;
  std::vector<float> mean;
};

Cold ColdRun(const std::vector<Token>& prompt, int64_t likeliest) {
  EngineOptions options;
  options.rows_max = 1;
  Engine engine(SmallModel(), options);
  auto sequence = engine.NewSequence();
  Sampler sampler(engine.vocabulary());
  const auto width = static_cast<size_t>(engine.model().spec.width);
  std::vector<float> logits(static_cast<size_t>(engine.vocabulary()));
  std::vector<double> sums(width);
  Cold cold;
  for (size_t i = 0; i < prompt.size(); ++i) {
    EXPECT_TRUE(engine.Append(*sequence, std::span(prompt).subspan(i, 1), logits.data()).ok());
    for (size_t d = 0; d < width; ++d) sums[d] += double{engine.hidden()[d]};
    if (i + 1 == prompt.size()) continue;
    cold.judged.push_back(sampler.Judge(logits, prompt[i + 1], likeliest));
    const auto& said = cold.judged.back().likeliest;
    cold.likeliest.push_back({said.begin(), said.end()});
  }
  for (const double sum : sums) {
    cold.mean.push_back(static_cast<float>(sum / static_cast<double>(prompt.size())));
  }
  return cold;
}

void ExpectJudged(const Answer& answer, const Cold& cold, size_t from, size_t likeliest) {
  ASSERT_EQ(answer.judged.size(), cold.judged.size() + 1 - from);
  for (size_t i = 0; i < answer.judged.size(); ++i) {
    const Sampled& want = cold.judged[i + from - 1];
    EXPECT_EQ(answer.judged[i].first, static_cast<int64_t>(i + from));
    EXPECT_EQ(answer.judged[i].second, want.logprob);
    EXPECT_EQ(answer.ranks[i], want.rank);
    for (size_t k = 0; k < likeliest; ++k) {
      EXPECT_EQ(answer.likeliest[i * likeliest + k].token, cold.likeliest[i + from - 1][k].token);
      EXPECT_EQ(answer.likeliest[i * likeliest + k].logprob,
                cold.likeliest[i + from - 1][k].logprob);
    }
  }
}

TEST(Prompts, EachTokenIsJudgedWithTheBitsOfAColdRunHoweverItIsCutAndWhateverIsKnown) {
  const std::vector<Token> prompt = Text(3, 150);
  const Cold cold = ColdRun(prompt, 3);
  for (const int64_t chunk : {1, 7, 64, 0}) {
    Room room;
    room.chunk_rows = chunk;
    room.rows_max = chunk == 64 ? 16 : 200;
    Serving serving = Serve(room);
    Request request = Ask(prompt, 4);
    request.prompt_logprobs = 3;
    const Answer judged = AnswerAll(&serving, {request, Ask(Text(4, 90), 9)})[0];
    ExpectJudged(judged, cold, 1, 3);
    EXPECT_TRUE(judged.pooled.empty());
    // All of it is known now, and is looked at again.
    const Answer again = AnswerAll(&serving, {request})[0];
    ExpectJudged(again, cold, 1, 3);
    EXPECT_EQ(again.text, judged.text);
    EXPECT_EQ(again.match.resume, 0);
    EXPECT_EQ(again.match.reason, Reason::kCacheDisabled);
    // Others reuse what it computed.
    request.prompt_logprobs = -1;
    EXPECT_EQ(AnswerAll(&serving, {request})[0].match.computed(), 0);
  }
}

TEST(Prompts, OnlyTheEndOfAPromptIsComputedWhenOnlyItIsJudged) {
  const std::vector<Token> prompt = Text(5, 200);
  const Cold cold = ColdRun(prompt, 0);
  Serving serving = Serve();
  Request begun = Ask(prompt, 1);
  begun.prompt.resize(160);
  AnswerAll(&serving, {begun});
  for (const size_t from : {161u, 170u, 199u}) {
    Request request = Ask(prompt, 0);
    request.prompt_logprobs = 0;
    request.prompt_logprobs_from = static_cast<int64_t>(from);
    const Answer answer = AnswerAll(&serving, {request})[0];
    ExpectJudged(answer, cold, from, 0);
    EXPECT_GE(answer.match.resume, 160);
    EXPECT_LT(answer.match.resume, static_cast<int64_t>(from));
  }
}

TEST(Prompts, MeansOfRowsHaveTheSameBitsHoweverTheyAreCut) {
  const std::vector<Token> prompt = Text(6, 140);
  const Cold cold = ColdRun(prompt, 0);
  for (const int64_t chunk : {1, 13, 128, 0}) {
    Room room;
    room.chunk_rows = chunk;
    room.rows_max = 150;
    Serving serving = Serve(room);
    Request request = Ask(prompt, 0);
    request.pool_hidden = true;
    for (int times = 0; times < 2; ++times) {
      const auto answers = AnswerAll(&serving, {request, Ask(prompt, 3)});
      EXPECT_EQ(answers[0].pooled, cold.mean);
      EXPECT_TRUE(answers[0].text.empty());
      EXPECT_TRUE(answers[1].pooled.empty());
    }
  }
}

TEST(Prompts, AreLookedAtOnceThoughTheyHaveToGiveWayAndComeAgain) {
  for (const int64_t chunk : {2, 5}) {
    Room room;
    room.chunk_rows = chunk;
    room.running_max = 2;
    Serving serving = Serve(room);
    std::vector<Request> requests;
    std::vector<Cold> colds;
    for (const uint32_t seed : {7, 8}) {
      colds.push_back(ColdRun(Text(seed, 200), 0));
      requests.push_back(Ask(Text(seed, 200), 2));
      requests.back().prompt_logprobs = 0;
      requests.back().pool_hidden = true;
    }
    Request other = Ask(Text(9, 10), 2);  // of whom has no place yet
    other.root = serving.scheduler->OpenRoot(serving.scheduler->AddTenant({}).value(), "").value();
    const auto answers = AnswerAll(&serving, requests, {other});
    for (size_t i = 0; i < 2; ++i) {
      ExpectJudged(answers[i], colds[i], 1, 0);
      EXPECT_EQ(answers[i].pooled, colds[i].mean);
    }
    EXPECT_EQ(answers[1].starts, 2);
  }
}

TEST(Prompts, TooManyLikeliestTokensAreRefused) {
  Serving serving = Serve();
  Request request = Ask({1, 2}, 1);
  request.root = serving.scheduler->default_root();
  request.prompt_logprobs = kLogprobsMax + 1;
  const auto refused = serving.scheduler->Submit(std::move(request));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kBadInput);
}

}  // namespace
}  // namespace lode::runtime
