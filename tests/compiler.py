"""How programs compile faster whose numbers are held only to those of others that are compiled like them."""

QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # for XLA_FLAGS
