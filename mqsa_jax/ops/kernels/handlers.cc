// What XLA calls: the kernels' arguments taken from its buffers.

#include <cstdint>

#include "largest.h"
#include "linear_logsumexp.h"
#include "sparse_bilinear.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;
using Indices = ffi::Buffer<ffi::S32>;
using FloatResults = ffi::ResultBuffer<ffi::F32>;

ffi::Error LinearLogSumExp(ffi::ThreadPool pool, Floats x, Floats table, Floats weight,
                           ffi::Buffer<ffi::PRED> pad_logit, Indices item, Floats value,
                           ffi::BufferR0<ffi::S32> used, FloatResults lse, FloatResults dx,
                           FloatResults dtable, FloatResults dvalue, FloatResults exps,
                           int64_t chunk) {
  const mqsa_jax::LogSumExpArguments args{
      chunk,           table.dimensions()[0], table.dimensions()[1], item.dimensions()[2],
      x.typed_data(),  table.typed_data(),    weight.typed_data(),   pad_logit.typed_data(),
      item.typed_data(), value.typed_data(),  lse->typed_data(),     dx->typed_data(),
      dtable->typed_data(), dvalue->typed_data(), exps->typed_data()};
  if (!args.items || args.dim % mqsa_jax::kTileColumns ||
      static_cast<int64_t>(exps->element_count()) < mqsa_jax::ExponentialsOfChunk(args))
    return ffi::Error::InvalidArgument("the caller's tiles are not those of the kernel");
  mqsa_jax::LinearLogSumExp(args, x.dimensions()[0], x.dimensions()[1], *used.typed_data(), pool);
  return ffi::Error::Success();
}

ffi::Error SparseBilinear(ffi::ThreadPool pool, Floats x, Floats table, Indices row, Indices item,
                          Floats weight, ffi::ResultBufferR0<ffi::F32> sum, FloatResults dx,
                          FloatResults dtable, FloatResults dweight) {
  const mqsa_jax::BilinearArguments args{
      row.dimensions()[0], x.dimensions()[0],  table.dimensions()[0], x.dimensions()[1],
      x.typed_data(),      table.typed_data(), row.typed_data(),      item.typed_data(),
      weight.typed_data(), dx->typed_data(),   dtable->typed_data(),  dweight->typed_data()};
  *sum->typed_data() = mqsa_jax::SparseBilinear(args, pool);
  return ffi::Error::Success();
}

ffi::Error Largest(ffi::ThreadPool pool, Floats value, FloatResults largest,
                   ffi::ResultBuffer<ffi::S32> index) {
  const mqsa_jax::LargestArguments args{value.dimensions()[0],    value.dimensions()[1],
                                        largest->dimensions()[1], value.typed_data(),
                                        largest->typed_data(),    index->typed_data()};
  if (args.count > args.columns)
    return ffi::Error::InvalidArgument("more entries are asked for than a row has");
  mqsa_jax::Largest(args, pool);
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(mqsa_jax_linear_logsumexp, LinearLogSumExp,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<ffi::Buffer<ffi::PRED>>()
                                  .Arg<Indices>()
                                  .Arg<Floats>()
                                  .Arg<ffi::BufferR0<ffi::S32>>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Attr<int64_t>("chunk"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(mqsa_jax_sparse_bilinear, SparseBilinear,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Indices>()
                                  .Arg<Indices>()
                                  .Arg<Floats>()
                                  .Ret<ffi::BufferR0<ffi::F32>>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(mqsa_jax_largest, Largest,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Ret<Floats>()
                                  .Ret<ffi::Buffer<ffi::S32>>());
