#include "runtime/fairness/fair_queue.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace lode::runtime {

void FairQueue::Add(double weight) {
  LODE_CHECK(weight > 0.0);
  double most = 0.0;  // it is owed nothing of what was before it
  for (const Account& account : accounts_) most = std::max(most, account.had);
  accounts_.push_back({weight, most, 0.0});
}

void FairQueue::Charge(int64_t tenant, double milliseconds) {
  Account& account = accounts_[static_cast<size_t>(tenant)];
  account.had += milliseconds / account.weight;
  account.charged += milliseconds;
}

int64_t FairQueue::Next(std::span<const uint8_t> wants, std::span<const double> promised) const {
  LODE_CHECK(wants.size() == accounts_.size());
  int64_t next = -1;
  double least = 0.0;
  for (size_t i = 0; i < accounts_.size(); ++i) {
    if (!wants[i]) continue;
    const double had =
        accounts_[i].had + (promised.empty() ? 0.0 : promised[i] / accounts_[i].weight);
    if (next >= 0 && had >= least) continue;
    next = static_cast<int64_t>(i);
    least = had;
  }
  return next;
}

void FairQueue::Settle(std::span<const uint8_t> denied) {
  LODE_CHECK(denied.size() == accounts_.size());
  double least = std::numeric_limits<double>::infinity(), most = 0.0;
  for (size_t i = 0; i < accounts_.size(); ++i) {
    if (denied[i]) least = std::min(least, accounts_[i].had);
    most = std::max(most, accounts_[i].had);
  }
  const double floor = std::min(least, most);  // nobody was denied anything: nobody is owed
  for (size_t i = 0; i < accounts_.size(); ++i) {
    if (!denied[i]) accounts_[i].had = std::max(accounts_[i].had, floor);
  }
}

namespace {

// Of the wishes that want more: the tenant's first in line; -1: none.
int64_t FirstOf(int64_t tenant, std::span<const RowWish> wishes, std::span<const int64_t> granted) {
  int64_t first = -1;
  for (size_t i = 0; i < wishes.size(); ++i) {
    const RowWish& wish = wishes[i];
    if (wish.tenant != tenant || granted[i] == wish.rows) continue;
    const RowWish* best = first < 0 ? nullptr : &wishes[static_cast<size_t>(first)];
    if (best == nullptr || wish.priority > best->priority ||
        (wish.priority == best->priority && wish.arrival < best->arrival)) {
      first = static_cast<int64_t>(i);
    }
  }
  return first;
}

}  // namespace

std::vector<int64_t> ShareRows(const FairQueue& queue, std::span<const RowWish> wishes,
                               const RowShareOptions& options) {
  std::vector<int64_t> granted(wishes.size());
  if (wishes.empty()) return granted;
  FairQueue accounts = queue;  // charged here with what is granted; the real ones when it has run
  int64_t room = options.rows;
  const auto grant = [&](size_t i, int64_t most) {
    const int64_t rows = std::min({most, wishes[i].rows - granted[i], room});
    granted[i] += rows;
    room -= rows;
    accounts.Charge(wishes[i].tenant, static_cast<double>(rows) * options.row_milliseconds);
  };
  std::vector<size_t> aged;
  for (size_t i = 0; i < wishes.size(); ++i) {
    if (wishes[i].passed_over >= options.aged && wishes[i].rows > 0) aged.push_back(i);
  }
  std::stable_sort(aged.begin(), aged.end(), [&](size_t a, size_t b) {
    return wishes[a].passed_over > wishes[b].passed_over;
  });
  for (const size_t i : aged) grant(i, options.portion);

  while (room > 0) {
    std::vector<uint8_t> wants(static_cast<size_t>(queue.tenants()));
    for (size_t i = 0; i < wishes.size(); ++i) {
      if (granted[i] < wishes[i].rows) wants[static_cast<size_t>(wishes[i].tenant)] = 1;
    }
    const int64_t tenant = accounts.Next(wants);
    if (tenant < 0) break;
    const bool alone = std::count(wants.begin(), wants.end(), 1) == 1;
    grant(static_cast<size_t>(FirstOf(tenant, wishes, granted)), alone ? room : options.portion);
  }
  return granted;
}

void DrainRate::Ended(double milliseconds) {
  if (times_.size() < kKept) {
    times_.push_back(milliseconds);
    return;
  }
  times_[next_] = milliseconds;
  next_ = (next_ + 1) % kKept;
}

double DrainRate::Interval() const {
  if (times_.size() < 2) return 0.0;
  const double oldest = times_[times_.size() < kKept ? 0 : next_];
  const double newest = times_[times_.size() < kKept ? times_.size() - 1
                                                     : (next_ + kKept - 1) % kKept];
  return (newest - oldest) / static_cast<double>(times_.size() - 1);
}

}  // namespace lode::runtime
