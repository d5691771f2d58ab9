// Whose turn it is: what each of several tenants has had of the machine's time, and who of those
// that want some comes next. Plain logic; it knows no request and reads no clock.
//
// Deficit round-robin (Shreedhar and Varghese 1995) in predicted milliseconds, with quanta as small
// as a chunk of a prompt: next is always who has had least for its weight, and what it then gets is
// charged to it. One account serves two questions, who is admitted and whose rows run, as a counter
// of tokens does in Sheng et al. 2024 ("Fairness in Serving Large Language Models"); rounds with a
// fixed quantum would need one for each of them.
//
// Only who is denied something is owed something. Who gets all it asks for, or asks for nothing,
// saves nothing up, so it cannot come back later and hold up everybody else.
// Threads: one owner.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lode::runtime {

class FairQueue {
 public:
  // Tenants count from 0. weight > 0.
  void Add(double weight);
  int64_t tenants() const { return static_cast<int64_t>(accounts_.size()); }
  double weight(int64_t tenant) const { return account(tenant).weight; }
  // All that was ever charged.
  double milliseconds(int64_t tenant) const { return account(tenant).charged; }

  void Charge(int64_t tenant, double milliseconds);
  // What a tenant has had for its weight; the least is next. Means something only beside another.
  double Had(int64_t tenant) const { return account(tenant).had; }
  // Who has had least for its weight of those that want something, when each is first charged what
  // `promised` says in milliseconds (empty: nothing); ties go to the lower one. -1: nobody wants.
  int64_t Next(std::span<const uint8_t> wants, std::span<const double> promised = {}) const;
  // After a step: who was denied something in it. The others are owed nothing.
  void Settle(std::span<const uint8_t> denied);

 private:
  struct Account {
    double weight = 1.0;
    double had = 0.0;  // milliseconds / weight, with what was not owed
    double charged = 0.0;
  };
  const Account& account(int64_t tenant) const { return accounts_[static_cast<size_t>(tenant)]; }

  std::vector<Account> accounts_;
};

// A prompt that rows of a step could run for.
struct RowWish {
  int64_t tenant = 0;
  int64_t priority = 0;   // of several of a tenant the highest goes first
  uint64_t arrival = 0;   // then the earliest
  int64_t rows = 0;       // that it could use
  int64_t passed_over = 0;  // steps in a row that had no row for it
};

struct RowShareOptions {
  int64_t rows = 0;      // of the step, for all of them
  int64_t portion = 32;  // rows that a tenant gets before the next one's turn, if several want some
  int64_t aged = 16;     // who was passed over as often comes first, with a portion
  double row_milliseconds = 1.0;
};

// How many rows each wish gets, in its order. As long as at least `portion` rows are shared, nobody
// is passed over more than aged + wishes.size() times in a row.
std::vector<int64_t> ShareRows(const FairQueue& queue, std::span<const RowWish> wishes,
                               const RowShareOptions& options);

// How fast requests end, for who asks when there will be room.
// Threads: one owner.
class DrainRate {
 public:
  void Ended(double milliseconds);
  // Milliseconds for each of the last few that ended; 0: too few did.
  double Interval() const;

 private:
  static constexpr size_t kKept = 32;
  std::vector<double> times_;  // the last of them, a ring
  size_t next_ = 0;
};

}  // namespace lode::runtime
