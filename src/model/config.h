// Reads a checkpoint's config into a ModelSpec, with the tables of arch/. Everything that Lode cannot
// compute is refused here, by the name of its field, before any weight is touched.
#pragma once

#include "base/result.h"
#include "model/arch/arch.h"
#include "model/spec.h"
#include "tensor/source.h"

namespace lode::model {

// Errors: kUnsupported for a family, layer kind, activation, routing ... that Lode does not have;
// kBadInput for fields that are missing (all of them listed), of a wrong type or out of range.
Result<ModelSpec> ReadSpec(const tensor::TensorSource& source);

// The table of the family; a spec can only come from one.
const ArchDef& ArchOf(const ModelSpec& spec);

// "MEM*E": the layers in the family's letters.
std::string PatternOf(const ModelSpec& spec);

}  // namespace lode::model
