#include "tune/lesson.h"

#include <algorithm>
#include <cmath>

namespace lode::tune {

double Imbalance(const train::Trainer& trainer) {
  double worst = 0.0;
  for (const std::vector<int64_t>& loads : trainer.loads()) {
    int64_t all = 0, most = 0;
    for (const int64_t load : loads) {
      all += load;
      most = std::max(most, load);
    }
    if (all == 0) continue;
    const auto share = static_cast<double>(most * std::ssize(loads)) / static_cast<double>(all);
    worst = std::max(worst, share - 1.0);
  }
  return worst;
}

void Move(train::Trainer* trainer, StepMetrics* metrics) {
  metrics->imbalance = Imbalance(*trainer);
  if (!std::isfinite(metrics->loss)) {
    trainer->Discard();
    metrics->skipped = true;
    return;
  }
  const train::UpdateReport update = trainer->Update(metrics->rate);
  metrics->norm = update.norm;
  metrics->skipped = update.skipped;
}

}  // namespace lode::tune
