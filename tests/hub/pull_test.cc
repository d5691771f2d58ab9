// Pulls against a hub on 127.0.0.1 that speaks the API and misbehaves on request.
#include "hub/pull.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/file.h"
#include "base/text.h"
#include "hub/store.h"
#include "tests/hub/loopback_hub.h"

namespace lode::hub {
namespace {

using testing::HubFile;
using testing::LoopbackHub;

// Bytes that repeat nowhere, so that a piece in the wrong place shows.
std::string Bytes(size_t count, uint32_t seed) {
  std::string bytes(count, '\0');
  uint64_t x = seed * 2654435761u + 1;
  for (char& c : bytes) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    c = static_cast<char>(x >> 56);
  }
  return bytes;
}

class PullTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/lode_pull_XXXXXX";
    home_ = ::mkdtemp(name);
    hub_.files["config.json"] = {"{\"model_type\":\"nemotron_h\"}", false, 0, ""};
    hub_.files["model-00001-of-00002.safetensors"] = {Bytes(300'000, 1), true, 0, ""};
    hub_.files["model-00002-of-00002.safetensors"] = {Bytes(70'001, 2), true, 0, ""};
    hub_.files["sub/empty.txt"] = {"", false, 0, ""};
    hub_.files["pytorch_model.bin"] = {Bytes(1000, 3), true, 0, ""};
  }
  void TearDown() override {
    std::error_code error;
    std::filesystem::remove_all(home_, error);
  }

  PullOptions Options() {
    PullOptions options;
    options.model = "acme/tiny";
    options.endpoint = hub_.endpoint();
    options.home = home_;
    options.segment_bytes = 50'000;
    options.retry.first_pause_s = 0.01;
    options.retry.longest_pause_s = 0.05;
    return options;
  }

  std::string Folder() const { return home_ + "/models/acme/tiny/" + hub_.sha; }

  void ExpectComplete() {
    const Result<std::string> found = Store(home_).Find("acme/tiny");
    ASSERT_TRUE(found.ok()) << found.error().ToString();
    EXPECT_EQ(*found, Folder());
    for (const auto& [name, file] : hub_.files) {
      if (name == "pytorch_model.bin") continue;
      const Result<std::string> content = ReadFile(Folder() + "/" + name);
      ASSERT_TRUE(content.ok()) << content.error().ToString();
      EXPECT_TRUE(*content == file.content) << name;
    }
    EXPECT_FALSE(FileExists(home_ + "/models/acme/tiny/.partial"));
  }
  void ExpectNothingInStore() { EXPECT_FALSE(Store(home_).Find("acme/tiny").ok()); }

  // How often a file was asked for, and whether with a token.
  int Asked(const LoopbackHub& hub, const std::string& part, bool with_token = false) {
    int count = 0;
    for (const testing::Request& request : hub.requests()) {
      if (request.target.find(part) == std::string::npos) continue;
      count += !with_token || request.headers.contains("authorization");
    }
    return count;
  }

  LoopbackHub hub_;
  std::string home_;
};

TEST_F(PullTest, BringsTheCheckpointAndNothingElse) {
  const Result<PullResult> result = Pull(Options());
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_EQ(result->sha, hub_.sha);
  EXPECT_EQ(result->path, Folder());
  EXPECT_EQ(result->files, 4);
  EXPECT_EQ(result->bytes, 300'000u + 70'001u + hub_.files["config.json"].content.size());
  EXPECT_EQ(result->bytes_downloaded, result->bytes);
  ExpectComplete();
  EXPECT_FALSE(FileExists(Folder() + "/pytorch_model.bin"));
  EXPECT_EQ(Asked(hub_, "pytorch_model"), 0);
  // 300,000 bytes in pieces of 50,000.
  EXPECT_EQ(Asked(hub_, "model-00001"), 6);
}

TEST_F(PullTest, DownloadsNothingTwice) {
  ASSERT_TRUE(Pull(Options()).ok());
  const uint64_t sent = hub_.body_bytes_sent();
  const Result<PullResult> again = Pull(Options());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->bytes_downloaded, 0u);
  EXPECT_EQ(hub_.body_bytes_sent(), sent);
  // A file that was damaged since is fetched again.
  std::filesystem::resize_file(Folder() + "/model-00002-of-00002.safetensors", 10);
  const Result<PullResult> repaired = Pull(Options());
  ASSERT_TRUE(repaired.ok());
  EXPECT_EQ(repaired->bytes_downloaded, 70'001u);
  ExpectComplete();
}

TEST_F(PullTest, SurvivesConnectionsThatDropInTheMiddle) {
  hub_.drop_times = 12;
  hub_.drop_after_bytes = 20'000;
  const Result<PullResult> result = Pull(Options());
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_EQ(hub_.drop_times, 0);
  EXPECT_EQ(result->bytes_downloaded, result->bytes);  // no byte came twice
  ExpectComplete();
}

TEST_F(PullTest, GivesUpWhenNothingMovesAndGoesOnLater) {
  hub_.drop_times = 1000;
  hub_.drop_after_bytes = 0;
  hub_.files["model-00001-of-00002.safetensors"].content = Bytes(30'000, 9);
  PullOptions options = Options();
  options.retry.tries = 3;
  const Result<PullResult> result = Pull(options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kNetwork);
  EXPECT_NE(result.error().ToString().find("pull again"), std::string::npos)
      << result.error().ToString();
  ExpectNothingInStore();
  hub_.drop_times = 0;
  ASSERT_TRUE(Pull(options).ok());
  ExpectComplete();
}

TEST_F(PullTest, ResumesWhereACancelledPullStopped) {
  hub_.bytes_per_ms = 150;  // 370 kB on two connections take more than a second
  std::atomic<bool> cancel = false;
  PullOptions options = Options();
  options.cancel = &cancel;
  options.parallel = 2;
  options.progress = [&](const PullProgress& progress) {
    if (progress.bytes_done > 120'000) cancel = true;
  };
  const Result<PullResult> stopped = Pull(options);
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code(), Code::kCancelled);
  ExpectNothingInStore();
  hub_.bytes_per_ms = 0;
  cancel = false;
  const Result<PullResult> result = Pull(Options());
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_LE(result->bytes_downloaded, result->bytes - 120'000);
  ExpectComplete();
}

TEST_F(PullTest, ResumesAlsoFilesThatFinishedBeforeThePullDid) {
  hub_.files["model-00002-of-00002.safetensors"].listed_hash = std::string(64, 'a');
  PullOptions options = Options();
  options.parallel = 1;
  ASSERT_FALSE(Pull(options).ok());
  ExpectNothingInStore();
  EXPECT_FALSE(Store(home_).Find("acme/tiny:config.json").ok());
  hub_.files["model-00002-of-00002.safetensors"].listed_hash = "";
  const Result<PullResult> result = Pull(options);
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_LE(result->bytes_downloaded, 71'000u);
  ExpectComplete();
}

TEST_F(PullTest, TakesFilesWholeFromAServerWithoutRanges) {
  hub_.ranges = false;
  ASSERT_TRUE(Pull(Options()).ok());
  ExpectComplete();
  EXPECT_EQ(Asked(hub_, "model-00001"), 1);
}

TEST_F(PullTest, StartsAFileOverWhenItCannotBeResumed) {
  hub_.ranges = false;
  hub_.drop_times = 2;
  hub_.drop_after_bytes = 40'000;
  const Result<PullResult> result = Pull(Options());
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_EQ(result->bytes_downloaded, result->bytes + 80'000);
  ExpectComplete();
}

TEST_F(PullTest, DoesNotAskForeverAServerThatNeverGetsFurther) {
  hub_.ranges = false;
  hub_.drop_times = 1'000'000;
  hub_.drop_after_bytes = 40'000;
  const Result<PullResult> result = Pull(Options());
  ASSERT_FALSE(result.ok());
  EXPECT_LT(hub_.requests().size(), 40u);
}

TEST_F(PullTest, FetchesBytesThatAreWrongOnceAgain) {
  hub_.flip_times = 1;
  const Result<PullResult> result = Pull(Options());
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_GT(result->bytes_downloaded, result->bytes);
  ExpectComplete();
}

TEST_F(PullTest, RefusesAFileWhoseHashIsWrong) {
  for (const char* name : {"model-00002-of-00002.safetensors", "config.json"}) {
    HubFile& file = hub_.files[name];
    file.listed_hash = std::string(file.lfs ? 64 : 40, 'b');
    const Result<PullResult> result = Pull(Options());
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.error().message().find(name), std::string::npos);
    EXPECT_NE(result.error().message().find("promises"), std::string::npos);
    ExpectNothingInStore();
    file.listed_hash = "";
  }
  ASSERT_TRUE(Pull(Options()).ok());
  ExpectComplete();
}

TEST_F(PullTest, RefusesAFileThatIsLongerOrShorterThanListed) {
  for (const uint64_t size : {uint64_t{69'000}, uint64_t{71'000}}) {
    hub_.files["model-00002-of-00002.safetensors"].listed_size = size;
    const Result<PullResult> result = Pull(Options());
    ASSERT_FALSE(result.ok());
    ExpectNothingInStore();
  }
}

TEST_F(PullTest, WaitsAsLongAsTheHubAsks) {
  hub_.fail_times = 2;
  hub_.fail_status = 429;
  hub_.retry_after = "1";
  std::string notes;
  PullOptions options = Options();
  options.parallel = 1;
  options.progress = [&](const PullProgress& progress) { notes += progress.note; };
  const auto start = std::chrono::steady_clock::now();
  const Result<PullResult> result = Pull(options);
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(1900));
  EXPECT_NE(notes.find("waiting 1 s"), std::string::npos) << notes;
  ExpectComplete();
}

TEST_F(PullTest, DoesNotWaitForHours) {
  hub_.fail_times = 1000;
  hub_.fail_status = 429;
  hub_.retry_after = "7200";
  const Result<PullResult> result = Pull(Options());
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().ToString().find("7200 s"), std::string::npos);
}

TEST_F(PullTest, TriesAgainAfterErrorsOfTheServer) {
  hub_.fail_times = 5;
  hub_.fail_status = 502;
  ASSERT_TRUE(Pull(Options()).ok());
  ExpectComplete();
}

TEST_F(PullTest, LeavesAServerThatDoesNotAnswer) {
  hub_.stall_times = 1;
  PullOptions options = Options();
  options.stall_timeout_s = 1;
  ASSERT_TRUE(Pull(options).ok());
  ExpectComplete();
}

TEST_F(PullTest, StopsAtOnceWhileItWaits) {
  hub_.stall_times = 1000;
  std::atomic<bool> cancel = false;
  PullOptions options = Options();
  options.cancel = &cancel;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    cancel = true;
  });
  const auto start = std::chrono::steady_clock::now();
  const Result<PullResult> result = Pull(options);
  later.join();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kCancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_F(PullTest, ShowsTheTokenToTheHubAndToNobodyElse) {
  LoopbackHub storage;  // another port of the same machine is another origin
  storage.files = hub_.files;
  hub_.storage = &storage;
  hub_.token = "hf_secret";
  PullOptions options = Options();
  options.token = "hf_secret";
  const Result<PullResult> result = Pull(options);
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  ExpectComplete();
  EXPECT_GE(Asked(storage, "/stored/model-00001"), 6);
  EXPECT_EQ(Asked(storage, "/", /*with_token=*/true), 0);
  EXPECT_EQ(Asked(hub_, "/", true), Asked(hub_, "/"));
}

TEST_F(PullTest, SaysWhatToDoWhenALoginIsMissing) {
  hub_.token = "hf_secret";
  PullOptions options = Options();
  Result<PullResult> result = Pull(options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kBadInput);
  EXPECT_NE(result.error().ToString().find("HF_TOKEN"), std::string::npos);
  EXPECT_EQ(hub_.requests().size(), 1u);  // asking again would change nothing

  options.token = "hf_wrong";
  result = Pull(options);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().ToString().find("does not accept the token"), std::string::npos);
  EXPECT_EQ(result.error().ToString().find("hf_wrong"), std::string::npos);

  hub_.refuse_status = 403;
  hub_.error_code = "GatedRepo";
  result = Pull(options);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().ToString().find("terms"), std::string::npos);

  options.token = "hf secret\r\nX-Evil: 1";
  result = Pull(options);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("token has characters"), std::string::npos);
}

TEST_F(PullTest, SaysWhichNameDoesNotExist) {
  PullOptions options = Options();
  options.model = "acme/other";
  Result<PullResult> result = Pull(options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kNotFound);
  EXPECT_NE(result.error().message().find("acme/other"), std::string::npos);
  hub_.error_code = "RevisionNotFound";
  options.revision = "v9";
  result = Pull(options);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().ToString().find("no revision 'v9'"), std::string::npos);
}

TEST_F(PullTest, RefusesFileNamesThatWouldLeaveTheStore) {
  for (const char* name : {"../evil", "/etc/evil", "a/../../evil", "a//b", "a\\\\..\\\\b", ".",
                           "a/.", "", ".lode.json", "x/y.part", "new\\nline"}) {
    hub_.list_body = std::string(R"({"sha":")") + hub_.sha + R"(","siblings":[{"rfilename":")" +
                     name + R"(","size":1},{"rfilename":"model.safetensors","size":1}]})";
    const Result<PullResult> result = Pull(Options());
    ASSERT_FALSE(result.ok()) << name;
    EXPECT_NE(result.error().message().find("refused"), std::string::npos)
        << result.error().ToString();
  }
  EXPECT_EQ(Asked(hub_, "/resolve/"), 0);
}

TEST_F(PullTest, RefusesListsThatMakeNoSense) {
  const std::string good_sha = "\"sha\":\"" + hub_.sha + "\"";
  for (const std::string& body :
       {std::string("<html>"), std::string("{}"), "{" + good_sha + "}",
        "{" + good_sha + ",\"siblings\":7}", std::string(R"({"sha":"../../x","siblings":[]})"),
        std::string(R"({"sha":5,"siblings":[]})"),
        "{" + good_sha + R"(,"siblings":[{"rfilename":"a"},{"rfilename":"a"}]})",
        "{" + good_sha + R"(,"siblings":[7,null,"x"]})", std::string(100'000, '[')}) {
    hub_.list_body = body;
    EXPECT_FALSE(Pull(Options()).ok()) << body.substr(0, 60);
  }
}

TEST_F(PullTest, AsksForSizesThatTheListDoesNotHave) {
  LoopbackHub storage;
  storage.files = hub_.files;
  hub_.storage = &storage;
  hub_.list_sizes = false;
  const Result<PullResult> result = Pull(Options());
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  ExpectComplete();
  // The hash of the header is checked, too.
  hub_.sha = "fedcba9876543210fedcba9876543210fedcba98";
  storage.files["model-00002-of-00002.safetensors"].content[5] ^= 1;
  EXPECT_FALSE(Pull(Options()).ok());
}

TEST_F(PullTest, LetsTheUserChooseAmongSeveralGguf) {
  hub_.files = {{"tiny-Q4_0.gguf", {Bytes(1000, 4), true, 0, ""}},
                {"tiny-Q8_0-00001-of-00002.gguf", {Bytes(2000, 5), true, 0, ""}},
                {"tiny-Q8_0-00002-of-00002.gguf", {Bytes(1500, 6), true, 0, ""}},
                {"README.md", {"hello", false, 0, ""}}};
  PullOptions options = Options();
  Result<PullResult> result = Pull(options);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("tiny-Q4_0.gguf (" + HumanBytes(1000) + ")"),
            std::string::npos)
      << result.error().ToString();
  EXPECT_NE(
      result.error().message().find("tiny-Q8_0-00001-of-00002.gguf (" + HumanBytes(3500) + ")"),
      std::string::npos);

  options.model = "acme/tiny:tiny-Q8_0-00001-of-00002.gguf";
  result = Pull(options);
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_EQ(result->files, 2);
  EXPECT_EQ(result->path, Folder() + "/tiny-Q8_0-00001-of-00002.gguf");
  const Store store(home_);
  EXPECT_EQ(*store.Find("acme/tiny"), result->path);
  EXPECT_EQ(*store.Find(options.model), result->path);

  // A second choice is added to the first.
  options.model = "acme/tiny";
  options.include = {"*Q4*", "*.md"};
  result = Pull(options);
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_EQ(result->files, 2);
  EXPECT_FALSE(store.Find("acme/tiny").ok());
  EXPECT_TRUE(store.Find("acme/tiny:tiny-Q4_0.gguf").ok());
  EXPECT_TRUE(store.Find("acme/tiny:tiny-Q8_0-00001-of-00002.gguf").ok());
  EXPECT_FALSE(store.Find("acme/tiny:tiny-Q5_0.gguf").ok());
}

TEST_F(PullTest, KeepsRevisionsApart) {
  ASSERT_TRUE(Pull(Options()).ok());
  const std::string first = Folder();
  hub_.sha = "89abcdef0123456789abcdef0123456789abcdef";
  hub_.files["config.json"].content = "{}";
  PullOptions options = Options();
  options.revision = "refs/pr/7";
  const Result<PullResult> result = Pull(options);
  ASSERT_TRUE(result.ok()) << result.error().ToString();
  EXPECT_EQ(Asked(hub_, "/revision/refs%2Fpr%2F7?"), 1);
  EXPECT_EQ(*Store(home_).Find("acme/tiny"), first);  // main stays what it was
  EXPECT_EQ(*ReadFile(Folder() + "/config.json"), "{}");
}

TEST_F(PullTest, SaysThatTheDiskIsTooSmallBeforeItBegins) {
  hub_.files["model-00001-of-00002.safetensors"].listed_size = uint64_t{1} << 60;
  const Result<PullResult> result = Pull(Options());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kNoSpace);
  EXPECT_NE(result.error().ToString().find("are free"), std::string::npos);
  EXPECT_EQ(Asked(hub_, "/resolve/"), 0);
}

TEST_F(PullTest, TurnsAWriteThatFailsIntoASentence) {
  // A limit on the size of files stands for the full disk, which a test cannot make.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 100'000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Result<PullResult> result = Pull(Options());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("cannot write"), std::string::npos)
      << result.error().ToString();
  ExpectNothingInStore();
  ASSERT_TRUE(Pull(Options()).ok());
  ExpectComplete();
}

TEST_F(PullTest, SaysThatNobodyAnswers) {
  PullOptions options = Options();
  options.endpoint = "http://127.0.0.1:1";
  options.retry.tries = 2;
  Result<PullResult> result = Pull(options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kNetwork);
  for (const char* endpoint : {"ftp://127.0.0.1", "file:///etc", "", "not an address"}) {
    options.endpoint = endpoint;
    result = Pull(options);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), Code::kBadInput) << endpoint;
  }
}

TEST_F(PullTest, ReportsProgressThatOnlyGrowsToItsTotal) {
  hub_.bytes_per_ms = 1000;
  uint64_t last = 0;
  int calls = 0;
  PullProgress final_progress;
  PullOptions options = Options();
  options.progress = [&](const PullProgress& progress) {
    EXPECT_GE(progress.bytes_done, last);
    last = progress.bytes_done;
    EXPECT_LE(progress.bytes_done, progress.bytes_total);
    ++calls;
    final_progress = progress;
  };
  ASSERT_TRUE(Pull(options).ok());
  EXPECT_GT(calls, 2);
  EXPECT_EQ(final_progress.bytes_done, final_progress.bytes_total);
  EXPECT_EQ(final_progress.files_done, 4);
  EXPECT_EQ(final_progress.files_total, 4);
}

TEST_F(PullTest, RunsOncePerModelAtATime) {
  hub_.bytes_per_ms = 200;
  std::thread first([&] { EXPECT_TRUE(Pull(Options()).ok()); });
  while (!FileExists(home_ + "/models/acme/tiny/.partial")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const Result<PullResult> second = Pull(Options());
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message().find("another pull"), std::string::npos);
  first.join();
  ExpectComplete();
}

}  // namespace
}  // namespace lode::hub
