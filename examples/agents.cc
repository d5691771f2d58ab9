// One document, read once; three agents with a question each go on from there.
//     agents MODEL FILE
#include <lode/context.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace {

int Fail(const lode::v1::Error& error) {
  std::fprintf(stderr, "agents: %s\n", error.ToString().c_str());
  return 2;
}

// Everything that one agent does; several run at once on one engine.
std::string Ask(lode::v1::Engine& engine, lode::v1::Context& context, const std::string& question) {
  const auto tokens = engine.Tokenize(question);
  if (!tokens.ok()) return tokens.error().ToString();
  const auto appended = context.Append(*tokens);
  if (!appended.ok()) return appended.error().ToString();
  const lode::v1::Sampling sampling = {.temperature = 0.7, .seed = 1};
  const auto answer = context.Generate({.sampling = sampling, .tokens_max = 40});
  if (!answer.ok()) return answer.error().ToString();
  return "[" + std::to_string(appended->reuse.cached) + " tokens shared, " +
         std::to_string(appended->reuse.computed) + " computed]" + question +
         engine.Text(answer->tokens);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: agents MODEL FILE\n");
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string document((std::istreambuf_iterator<char>(file)), {});
  auto engine = lode::v1::Engine::Open(argv[1], {.context_tokens = 8192});
  if (!engine.ok()) return Fail(engine.error());
  const auto tokens = engine->Tokenize(document, /*bos=*/true);
  if (!tokens.ok()) return Fail(tokens.error());

  auto shared = engine->NewContext();
  if (!shared.ok()) return Fail(shared.error());
  const auto read = shared->Append(*tokens);
  if (!read.ok()) return Fail(read.error());
  std::printf("read %lld tokens once\n", static_cast<long long>(read->tokens));

  auto agents = shared->Fork(3);  // copies nothing, computes nothing
  if (!agents.ok()) return Fail(agents.error());
  const std::string questions[] = {"\nIn short:", "\nThe main person:", "\nWhat comes next:"};
  std::vector<std::string> answers(3);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] { answers[i] = Ask(*engine, (*agents)[i], questions[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& answer : answers) std::printf("%s\n\n", answer.c_str());
  return 0;
}
