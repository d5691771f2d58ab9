#include "runtime/fairness/fair_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "runtime/fairness/context_root_key.h"

namespace lode::runtime {
namespace {

FairQueue Tenants(const std::vector<double>& weights) {
  FairQueue queue;
  for (const double weight : weights) queue.Add(weight);
  return queue;
}

TEST(FairQueue, TimeIsSharedByWeightsWhateverThePortionsCost) {
  FairQueue queue = Tenants({1.0, 2.0, 5.0});
  std::mt19937 random(1);
  double total = 0.0;
  for (int i = 0; i < 4000; ++i) {
    const std::vector<uint8_t> wants = {1, 1, 1};
    const double cost = 1.0 + random() % 100;
    queue.Charge(queue.Next(wants), cost);
    queue.Settle(wants);
    total += cost;
  }
  EXPECT_NEAR(queue.milliseconds(0) / total, 1.0 / 8, 0.002);
  EXPECT_NEAR(queue.milliseconds(1) / total, 2.0 / 8, 0.002);
  EXPECT_NEAR(queue.milliseconds(2) / total, 5.0 / 8, 0.002);
}

TEST(FairQueue, WhoWantsNothingSavesNothingUp) {
  FairQueue queue = Tenants({1.0, 1.0});
  for (int i = 0; i < 1000; ++i) {
    queue.Charge(0, 10.0);
    queue.Settle(std::vector<uint8_t>{1, 0});
  }
  int turns = 0;  // of the tenant that was idle, until the other one has a turn
  while (queue.Next(std::vector<uint8_t>{1, 1}) == 1) {
    queue.Charge(1, 10.0);
    queue.Settle(std::vector<uint8_t>{1, 1});
    ASSERT_LT(++turns, 3);
  }
}

TEST(FairQueue, WhoWasDeniedIsOwedIt) {
  FairQueue queue = Tenants({1.0, 1.0});
  for (int i = 0; i < 10; ++i) {  // the second one had no place
    queue.Charge(0, 10.0);
    queue.Settle(std::vector<uint8_t>{1, 1});
  }
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(queue.Next(std::vector<uint8_t>{1, 1}), 1);
    queue.Charge(1, 10.0);
  }
  EXPECT_EQ(queue.Next(std::vector<uint8_t>{1, 1}), 0);
}

TEST(FairQueue, WhoUsesMuchThatNobodyElseWantsOwesNothing) {
  FairQueue queue = Tenants({1.0, 1.0});
  for (int i = 0; i < 1000; ++i) {
    queue.Charge(0, 31.0);
    queue.Charge(1, 1.0);
    queue.Settle(std::vector<uint8_t>{0, 0});
  }
  EXPECT_EQ(queue.Had(0), queue.Had(1));
}

TEST(FairQueue, ANewTenantIsOwedNothingOfThePast) {
  FairQueue queue = Tenants({1.0});
  queue.Charge(0, 1e6);
  queue.Add(1.0);
  EXPECT_EQ(queue.Had(0), queue.Had(1));
}

TEST(FairQueue, WhatIsPromisedCountsAsHad) {
  const FairQueue queue = Tenants({1.0, 2.0});
  const std::vector<uint8_t> both = {1, 1};
  EXPECT_EQ(queue.Next(both, std::vector<double>{10.0, 10.0}), 1);  // 10 against 5
  EXPECT_EQ(queue.Next(both, std::vector<double>{10.0, 30.0}), 0);
  EXPECT_EQ(queue.Next(std::vector<uint8_t>{0, 0}), -1);
}

std::vector<int64_t> Share(const FairQueue& queue, const std::vector<RowWish>& wishes,
                           int64_t rows) {
  RowShareOptions options;
  options.rows = rows;
  return ShareRows(queue, wishes, options);
}

TEST(ShareRows, OneTenantsPromptsRunAsTheyCame) {
  const std::vector<RowWish> wishes = {{0, 0, 3, 100}, {0, 0, 1, 100}, {0, 0, 2, 100}};
  EXPECT_EQ(Share(Tenants({1.0}), wishes, 150), (std::vector<int64_t>{0, 100, 50}));
}

TEST(ShareRows, APriorityGoesBeforeWhoCameFirst) {
  const std::vector<RowWish> wishes = {{0, 0, 1, 100}, {0, 7, 2, 100}, {0, -1, 0, 100}};
  EXPECT_EQ(Share(Tenants({1.0}), wishes, 150), (std::vector<int64_t>{50, 100, 0}));
}

TEST(ShareRows, TenantsShareAStepByWeightWhoeverHasMorePrompts) {
  std::vector<RowWish> wishes;
  for (uint64_t i = 0; i < 20; ++i) wishes.push_back({0, 0, i, 1000});
  wishes.push_back({1, 0, 20, 1000});
  const std::vector<int64_t> rows = Share(Tenants({1.0, 3.0}), wishes, 512);
  EXPECT_EQ(rows[0], 128);
  EXPECT_EQ(rows[20], 384);
}

TEST(ShareRows, NoRowIsLeftOverWhileSomebodyWantsOne) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    FairQueue queue = Tenants({1.0, 2.0, 0.5});
    std::vector<RowWish> wishes;
    int64_t wanted = 0;
    for (uint64_t i = 0; i < random() % 12; ++i) {
      wishes.push_back({static_cast<int64_t>(random() % 3), static_cast<int64_t>(random() % 2), i,
                        static_cast<int64_t>(random() % 200), static_cast<int64_t>(random() % 40)});
      wanted += wishes.back().rows;
    }
    const auto room = static_cast<int64_t>(random() % 600);
    const std::vector<int64_t> rows = Share(queue, wishes, room);
    for (size_t i = 0; i < rows.size(); ++i) {
      ASSERT_GE(rows[i], 0);
      ASSERT_LE(rows[i], wishes[i].rows);
    }
    ASSERT_EQ(std::accumulate(rows.begin(), rows.end(), int64_t{0}), std::min(room, wanted));
  }
}

TEST(ShareRows, NobodyIsPassedOverForLongHoweverSmallItsWeightAndPriority) {
  FairQueue queue = Tenants({1000.0, 0.001});
  std::vector<RowWish> wishes;
  for (uint64_t i = 0; i < 8; ++i) wishes.push_back({0, 5, i, 1 << 20});
  wishes.push_back({0, -5, 8, 1 << 20});
  wishes.push_back({1, -5, 9, 1 << 20});
  const RowShareOptions options{.rows = 32};
  int64_t longest = 0;
  for (int step = 0; step < 2000; ++step) {
    const std::vector<int64_t> rows = ShareRows(queue, wishes, options);
    for (size_t i = 0; i < wishes.size(); ++i) {
      wishes[i].passed_over = rows[i] > 0 ? 0 : wishes[i].passed_over + 1;
      longest = std::max(longest, wishes[i].passed_over);
      queue.Charge(wishes[i].tenant, static_cast<double>(rows[i]));
    }
    queue.Settle(std::vector<uint8_t>{1, 1});
  }
  EXPECT_LE(longest, options.aged + std::ssize(wishes));
}

TEST(DrainRate, TellsWhatTheLastFewTook) {
  DrainRate rate;
  EXPECT_EQ(rate.Interval(), 0.0);
  for (int i = 0; i < 100; ++i) rate.Ended(10.0 * i);
  EXPECT_DOUBLE_EQ(rate.Interval(), 10.0);
  for (int i = 0; i < 31; ++i) rate.Ended(990.0 + 2.0 * (i + 1));
  EXPECT_DOUBLE_EQ(rate.Interval(), 2.0);
}

TEST(RootKey, EveryPartCountsAndNoneRunsIntoTheNext) {
  const auto key = [](std::string_view secret, std::string_view salt, std::string_view model,
                      std::string_view numerics) {
    return DeriveRootKey(std::as_bytes(std::span(secret)), salt, model, numerics);
  };
  const auto plain = key("secret", "ab", "c", "d");
  EXPECT_EQ(plain, key("secret", "ab", "c", "d"));
  EXPECT_NE(plain, key("Secret", "ab", "c", "d"));
  EXPECT_NE(plain, key("secret", "a", "bc", "d"));
  EXPECT_NE(plain, key("secret", "ab", "cd", ""));
  EXPECT_NE(plain, key("secret", "ab", "c", ""));
  EXPECT_NE(RandomSecret(), RandomSecret());
}

}  // namespace
}  // namespace lode::runtime
