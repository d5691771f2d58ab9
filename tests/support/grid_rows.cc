// Which combinations of the grid are walked, and the matrix of what came out.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>

#include "tests/support/grid.h"
#include "tests/support/serving.h"

namespace lode::runtime {
namespace {

enum : size_t { kSubject, kChunk, kCompany, kThreads, kGuesses, kHistory, kPool, kLeaving, kStep };

constexpr int64_t kChunks[] = {1, 2, 3, 5, 17, 64, 127, 128, 129, 0, -1};
constexpr int64_t kCompanies[] = {1, 2, 3, 8, 32};
constexpr int kThreadCounts[] = {1, 2, 3, 7};
constexpr int64_t kSteps[] = {33, 64, 256, 300};

template <typename Values, typename Say>
std::vector<std::string> Levels(const Values& values, const Say& say) {
  std::vector<std::string> levels;
  for (const auto& value : values) levels.push_back(say(value));
  return levels;
}

// Every choice of `strength` of the factors, ascending.
std::vector<std::vector<size_t>> Choices(size_t factors, int strength) {
  std::vector<std::vector<size_t>> all = {{}};
  for (int i = 0; i < strength; ++i) {
    std::vector<std::vector<size_t>> longer;
    for (const auto& choice : all) {
      for (size_t f = choice.empty() ? 0 : choice.back() + 1; f < factors; ++f) {
        longer.push_back(choice);
        longer.back().push_back(f);
      }
    }
    all = std::move(longer);
  }
  return all;
}

// A meeting of levels: which choice of factors, then the levels.
using Meeting = std::vector<int>;
Meeting MeetingOf(size_t choice, const std::vector<size_t>& factors, const std::vector<int>& row) {
  Meeting meeting = {static_cast<int>(choice)};
  for (const size_t factor : factors) meeting.push_back(row[factor]);
  return meeting;
}

std::set<Meeting> AllMeetings(const std::vector<std::vector<size_t>>& choices,
                              const std::vector<Factor>& factors) {
  std::set<Meeting> all;
  for (size_t c = 0; c < choices.size(); ++c) {
    std::vector<Meeting> meetings = {{static_cast<int>(c)}};
    for (const size_t factor : choices[c]) {
      std::vector<Meeting> longer;
      for (const Meeting& meeting : meetings) {
        for (int level = 0; level < std::ssize(factors[factor].levels); ++level) {
          longer.push_back(meeting);
          longer.back().push_back(level);
        }
      }
      meetings = std::move(longer);
    }
    all.insert(meetings.begin(), meetings.end());
  }
  return all;
}

// How many meetings would be new if `factor` had `level`; factors at -1 are not chosen yet.
int64_t NewOnes(const std::vector<std::vector<size_t>>& choices, const std::set<Meeting>& missing,
                std::vector<int> row, size_t factor, int level) {
  row[factor] = level;
  int64_t count = 0;
  for (size_t c = 0; c < choices.size(); ++c) {
    const auto& chosen = choices[c];
    if (std::find(chosen.begin(), chosen.end(), factor) == chosen.end()) continue;
    if (std::any_of(chosen.begin(), chosen.end(), [&](size_t f) { return row[f] < 0; })) continue;
    count += missing.contains(MeetingOf(c, chosen, row));
  }
  return count;
}

struct Cell {
  int64_t walks = 0, compared = 0, wrong = 0;
};
using Matrix = std::vector<std::vector<Cell>>;  // by factor and level

void Print(const Matrix& matrix, const Tally& all) {
  const auto& factors = GridFactors();
  for (size_t f = 0; f < factors.size(); ++f) {
    for (size_t l = 0; l < factors[f].levels.size(); ++l) {
      const Cell& cell = matrix[f][l];
      std::printf("    %-10s %-28s %5lld walks %8lld compared %4lld wrong\n",
                  l == 0 ? factors[f].name : "", factors[f].levels[l].c_str(),
                  static_cast<long long>(cell.walks), static_cast<long long>(cell.compared),
                  static_cast<long long>(cell.wrong));
    }
  }
  std::printf("    resumed at:");
  for (int role = 0; role < kPointRoles; ++role) {
    std::printf(" %s %lld", Name(static_cast<PointRole>(role)),
                static_cast<long long>(all.resumed[static_cast<size_t>(role)]));
  }
  std::printf("; 0, 1, 127, other mod 128: %lld %lld %lld %lld\n",
              static_cast<long long>(all.offsets[0]), static_cast<long long>(all.offsets[1]),
              static_cast<long long>(all.offsets[2]), static_cast<long long>(all.offsets[3]));
}

}  // namespace

const std::vector<Factor>& GridFactors() {
  static const std::vector<Factor> factors = {
      {"model", Levels(kSubjects, [](const GridSubject& subject) {
         return std::string(subject.path) + ", " + subject.numerics.name;
       })},
      {"chunk", Levels(kChunks, [](int64_t rows) {
         return rows == 0 ? "whole" : rows < 0 ? "random" : std::to_string(rows);
       })},
      {"company", Levels(kCompanies, [](int64_t n) { return std::to_string(n - 1) + " others"; })},
      {"threads", Levels(kThreadCounts, [](int n) { return std::to_string(n); })},
      {"guesses",
       {"none", "W=2", "W=3", "W=4", "W=5", "W=6", "W=7", "W=8", "the model's or n-grams"}},
      {"history",
       {"none", "on disk and back", "restored, mapped", "restored, read", "restored, zstd",
        "restored, sealed", "restored, delta"}},
      {"pool", {"ample", "tight", "crowded"}},
      {"leaving", {"nobody", "cancels"}},
      {"step", Levels(kSteps, [](int64_t rows) { return std::to_string(rows) + " rows"; })},
  };
  return factors;
}

Setting SettingOf(const std::vector<int>& row) {
  Setting setting;
  const auto level = [&](size_t factor) { return static_cast<size_t>(row[factor]); };
  setting.chunk_rows = kChunks[level(kChunk)];
  setting.running_max = kCompanies[level(kCompany)];
  setting.threads = kThreadCounts[level(kThreads)];
  setting.rows_max = kSteps[level(kStep)];
  if (setting.running_max == 32) {
    setting.requests = 36;
    setting.prompt_max = 40;
    setting.together = true;
  }
  const int guesses = row[kGuesses];
  setting.drafter = guesses == 0 ? Drafts::kNone : guesses == 8 ? Drafts::kOwn : Drafts::kTrue;
  setting.drafts = guesses == 8 ? 3 : guesses;
  setting.disk = row[kHistory] == 1;
  if (row[kHistory] > 1) setting.restored = static_cast<Restored>(row[kHistory] - 1);
  constexpr std::pair<int64_t, int64_t> kPools[] = {{80, 40}, {20, 5}, {9, 3}};
  setting.pages = kPools[level(kPool)].first;
  setting.slots = kPools[level(kPool)].second;
  setting.cancels = row[kLeaving] == 1;
  return setting;
}

std::string Describe(const std::vector<int>& row) {
  std::string text;
  for (size_t f = 0; f < row.size(); ++f) {
    const Factor& factor = GridFactors()[f];
    text += (f == 0 ? "" : "; ") + std::string(factor.name) + " " +
            factor.levels[static_cast<size_t>(row[f])];
  }
  return text;
}

std::vector<std::vector<int>> CoveringArray(const std::vector<Factor>& factors, int strength,
                                            uint32_t seed) {
  std::mt19937 random(seed);
  const auto choices = Choices(factors.size(), strength);
  std::set<Meeting> missing = AllMeetings(choices, factors);
  std::vector<std::vector<int>> rows;
  while (!missing.empty()) {
    // From a meeting that is missing; then factor after factor the level that brings most new ones.
    std::vector<int> row(factors.size(), -1);
    const Meeting first = *std::next(missing.begin(),
                                     static_cast<int64_t>(random() % std::min<size_t>(
                                                              missing.size(), 64)));
    const auto& chosen = choices[static_cast<size_t>(first[0])];
    for (size_t i = 0; i < chosen.size(); ++i) row[chosen[i]] = first[i + 1];
    std::vector<size_t> order;
    for (size_t f = 0; f < factors.size(); ++f) {
      if (row[f] < 0) order.push_back(f);
    }
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t factor : order) {
      int64_t most = -1;
      int best = 0;
      const auto levels = static_cast<int>(factors[factor].levels.size());
      const int offset = static_cast<int>(random() % static_cast<uint32_t>(levels));
      for (int i = 0; i < levels; ++i) {
        const int level = (i + offset) % levels;
        const int64_t count = NewOnes(choices, missing, row, factor, level);
        if (count > most) most = count, best = level;
      }
      row[factor] = best;
    }
    for (size_t c = 0; c < choices.size(); ++c) missing.erase(MeetingOf(c, choices[c], row));
    rows.push_back(row);
  }
  return rows;
}

bool Covers(const std::vector<std::vector<int>>& rows, const std::vector<Factor>& factors,
            int strength) {
  const auto choices = Choices(factors.size(), strength);
  std::set<Meeting> missing = AllMeetings(choices, factors);
  for (const auto& row : rows) {
    for (size_t c = 0; c < choices.size(); ++c) missing.erase(MeetingOf(c, choices[c], row));
  }
  return missing.empty();
}

Tally RunGrid(std::vector<std::vector<int>> rows, uint32_t seed) {
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a[kSubject] < b[kSubject]; });
  Matrix matrix;
  for (const Factor& factor : GridFactors()) matrix.emplace_back(factor.levels.size());
  Tally all;
  int loaded = -1;
  std::unique_ptr<model::Model> model;
  std::unique_ptr<Oracle> oracle;
  std::unique_ptr<SavedForms> saved;
  for (const auto& row : rows) {
    const GridSubject& subject = kSubjects[row[kSubject]];
    if (row[kSubject] != loaded) {
      oracle.reset(), saved.reset(), model.reset();
      loaded = row[kSubject];
      model = LoadGolden(subject.path);
      if (model == nullptr) return all;
      oracle = std::make_unique<Oracle>(*model, subject.numerics);
      saved = std::make_unique<SavedForms>(*model, subject);
    }
    SCOPED_TRACE(Describe(row) + "; seed " + std::to_string(seed));
    const Tally tally =
        Walk(*model, subject.numerics, SettingOf(row), seed++, oracle.get(), saved.get());
    EXPECT_EQ(tally.wrong, 0) << "of " << tally.rows << " rows of logits";
    EXPECT_EQ(tally.wrong_draws, 0) << "of " << tally.draws << " draws";
    EXPECT_EQ(tally.wrong_states, 0) << "of " << tally.states << " states";
    all.Add(tally);
    for (size_t f = 0; f < row.size(); ++f) {
      Cell& cell = matrix[f][static_cast<size_t>(row[f])];
      ++cell.walks;
      cell.compared += tally.rows + tally.draws + tally.states;
      cell.wrong += tally.errors();
    }
  }
  if (std::getenv("LODE_GRID") != nullptr) Print(matrix, all);
  return all;
}

}  // namespace lode::runtime
