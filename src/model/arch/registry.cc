#include "model/arch/arch.h"

namespace lode::model {

const std::vector<const ArchDef*>& AllArchs() {
  static const std::vector<const ArchDef*> kAll = {&kNemotronH};
  return kAll;
}

}  // namespace lode::model
