// What is recorded comes back as a load that shares what the recorded one shared, and says nothing.
#include "bench/contexts_trace.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/trace.h"

namespace lode::bench {
namespace {

class TraceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "lode-trace-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string path() const { return folder_ + "/load.jsonl"; }
  void Add(const std::vector<Token>& tokens, int64_t prompt, bool ids = false) {
    auto trace = cli::TraceFile::Open(path(), ids);  // as if each came from another process
    ASSERT_TRUE(trace.ok()) << trace.error().ToString();
    const Probe probe = {prompt / 2 + 1, runtime::PointRole::kNextUser};
    cli::TracedRequest request;
    request.tokens = tokens;
    request.prompt = prompt;
    request.probes = {&probe, 1};
    request.reason = "complete";
    const auto added = trace->Add(request);
    ASSERT_TRUE(added.ok()) << added.error().ToString();
  }
  std::string Broken(const std::string& line) {
    std::ofstream(path()) << line << "\n";
    const auto read = ReadTrace(path());
    return read.ok() ? "" : read.error().ToString();
  }

  std::string folder_;
};

std::vector<Token> All(const SimRequest& request) {
  std::vector<Token> all = request.prompt;
  all.insert(all.end(), request.output.begin(), request.output.end());
  return all;
}

int64_t Common(const std::vector<Token>& a, const std::vector<Token>& b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

// A load in which texts go on from one another, are edited, and begin anew.
std::vector<std::pair<std::vector<Token>, int64_t>> Load() {
  std::mt19937 random(7);
  std::vector<std::pair<std::vector<Token>, int64_t>> load;
  for (int i = 0; i < 40; ++i) {
    std::vector<Token> tokens;
    if (i > 0 && random() % 8 != 0) {
      tokens = load[random() % load.size()].first;
      tokens.resize(1 + random() % tokens.size());
    }
    const size_t prompt = tokens.size() + 1 + random() % 70;
    const size_t whole = prompt + random() % 50;
    while (tokens.size() < whole) tokens.push_back(static_cast<Token>(random() % 5000));
    load.emplace_back(std::move(tokens), prompt);
  }
  return load;
}

TEST_F(TraceTest, WhatIsSharedIsSharedToWithinABlock) {
  const auto load = Load();
  for (const auto& [tokens, prompt] : load) Add(tokens, prompt);
  const auto trace = ReadTrace(path());
  ASSERT_TRUE(trace.ok()) << trace.error().ToString();
  ASSERT_EQ(trace->requests.size(), load.size());
  int64_t shared = 0;
  for (size_t i = 0; i < load.size(); ++i) {
    const SimRequest& request = trace->requests[i];
    ASSERT_EQ(std::ssize(request.prompt), load[i].second);
    ASSERT_EQ(All(request).size(), load[i].first.size());
    ASSERT_EQ(request.probes.size(), 1u);
    EXPECT_EQ(request.probes[0].offset, load[i].second / 2 + 1);
    EXPECT_EQ(request.probes[0].role, runtime::PointRole::kNextUser);
    for (size_t j = 0; j < i; ++j) {
      const int64_t before = Common(load[i].first, load[j].first);
      const int64_t after = Common(All(request), All(trace->requests[j]));
      EXPECT_LE(after, before);
      EXPECT_GE(after, before / cli::kTraceBlock * cli::kTraceBlock);
      shared += after;
    }
  }
  EXPECT_GT(shared, 1000);
}

TEST_F(TraceTest, IdsComeBackAsTheyWereWhenAskedFor) {
  const auto load = Load();
  for (const auto& [tokens, prompt] : load) Add(tokens, prompt, true);
  const auto trace = ReadTrace(path());
  ASSERT_TRUE(trace.ok()) << trace.error().ToString();
  for (size_t i = 0; i < load.size(); ++i) EXPECT_EQ(All(trace->requests[i]), load[i].first);
}

TEST_F(TraceTest, WithoutTheSaltTheSameTextHasOtherHashes) {
  const std::vector<Token> tokens(100, 7);
  Add(tokens, 80);
  const std::string first = ReadFile(path()).value();
  std::filesystem::remove(path());
  Add(tokens, 80);
  EXPECT_EQ(ReadTrace(path())->requests.size(), 1u);
  const auto hashes = [](const std::string& line) {
    const size_t at = line.find("\"hash_ids\"");
    return line.substr(at, line.find(']', at) - at);
  };
  EXPECT_EQ(hashes(ReadFile(path()).value()), hashes(first));  // the salt is still there
  std::filesystem::remove(path());
  std::filesystem::remove(path() + ".salt");
  Add(tokens, 80);
  EXPECT_NE(hashes(ReadFile(path()).value()), hashes(first));
  EXPECT_EQ(first.find("\"prompt\""), std::string::npos);
  struct stat info;
  ASSERT_EQ(::stat((path() + ".salt").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  std::ofstream(path() + ".salt") << "pepper";
  EXPECT_FALSE(cli::TraceFile::Open(path(), false).ok());
}

TEST_F(TraceTest, OthersTracesAreReadToo) {
  std::ofstream(path())
      << R"({"timestamp": 0, "input_length": 1000, "output_length": 9, "hash_ids": [1, 2]})" "\n"
      << R"({"timestamp": 2500, "input_length": 1500, "output_length": 3, "hash_ids": [1, 2, 5]})"
         "\n";
  const auto trace = ReadTrace(path());
  ASSERT_TRUE(trace.ok()) << trace.error().ToString();
  const auto& [first, second] = std::tie(trace->requests[0], trace->requests[1]);
  EXPECT_EQ(second.arrival, 2.5);
  EXPECT_EQ(first.output.size(), 9u);
  EXPECT_EQ(Common(first.prompt, second.prompt), 1000);
  EXPECT_EQ(Common(All(first), second.prompt), 1000);  // what was answered nobody knows
}

TEST_F(TraceTest, LinesThatMakeNoSenseAreSentences) {
  for (const char* line :
       {R"({"input_length": 600, "output_length": 1, "hash_ids": [1]})",
        R"({"input_length": 0, "output_length": 1, "hash_ids": []})",
        R"({"input_length": 16, "output_length": -1, "hash_ids": [1]})",
        R"({"input_length": 16, "output_length": 99999999999, "hash_ids": [1]})",
        R"({"input_length": 16, "output_length": 1, "hash_ids": ["a"]})",
        R"({"input_length": 16, "output_length": 40, "hash_ids": [1], "output_hash_ids": [2]})",
        R"({"input_length": 16, "block_tokens": -1, "hash_ids": [1]})", R"({"prompt": [-1]})",
        R"({"prompt": []})", "{"}) {
    EXPECT_NE(Broken(line).find(":1"), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace lode::bench
