#include "api/context_text.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace lode::api {
namespace {

TEST(ContextText, IsWhatWasAppendedAndCutWhateverTheOrder) {
  struct Version {
    ContextText text;
    std::vector<int32_t> ids;
  };
  std::mt19937 random(7);
  std::vector<Version> versions(1);
  for (int step = 0; step < 3000; ++step) {
    // From any version on: those that share segments must not see one another.
    Version next = versions[random() % versions.size()];
    if (random() % 3 == 0) {
      const auto keep = static_cast<int64_t>(random() % (next.ids.size() + 1));
      next.text = next.text.First(keep);
      next.ids.resize(static_cast<size_t>(keep));
    } else {
      const int length = random() % 5 == 0 ? static_cast<int>(random() % 3000)
                                           : static_cast<int>(random() % 4);
      std::vector<int32_t> more;
      for (int i = 0; i < length; ++i) more.push_back(static_cast<int32_t>(random() % 1000));
      next.text = next.text.Append(more);
      next.ids.insert(next.ids.end(), more.begin(), more.end());
    }
    ASSERT_EQ(next.text.size(), std::ssize(next.ids));
    ASSERT_EQ(next.text.Ids(), next.ids) << step;
    versions[versions.size() < 20 ? 0 : random() % 20] = next;
    if (versions.size() < 20) versions.push_back(next);
  }
}

TEST(ContextText, ManyShortPiecesMakeNoLongChain) {
  ContextText text;
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 200'000; ++i) {
    text = text.Append({&i, 1});
    ids.push_back(i);
  }
  EXPECT_EQ(text.Ids(), ids);
  // A chain of so many links would be felt here: each copy walks it, and its end unwinds it.
  const ContextText copy = text.First(199'999);
  EXPECT_EQ(copy.size(), 199'999);
}

}  // namespace
}  // namespace lode::api
