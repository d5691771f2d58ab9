#include "tune/lesson.h"

#include <cmath>

namespace lode::tune {

void Move(train::Trainer* trainer, StepMetrics* metrics) {
  metrics->imbalance = trainer->Imbalance();
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
