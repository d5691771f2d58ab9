// Which field of a Model a tensor of the family's table is: the one list for those who fill models
// and for those who train them.
#pragma once

#include <vector>

#include "model/bind.h"
#include "model/tensors.h"

namespace lode::model {

// nullptr: the slot is not of that kind. Threads: free for all.
Weight* MatrixOf(Model* model, const TensorSlot& slot);
std::vector<float>* VectorOf(Model* model, const TensorSlot& slot);
// Of a slot with experts.
std::vector<Weight>* ExpertsOf(Model* model, const TensorSlot& slot);

}  // namespace lode::model
