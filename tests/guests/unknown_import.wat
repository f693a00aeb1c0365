;; A program that needs a function nobody provides.
(module
  (import "env" "launch" (func $launch (param i32) (result i32)))

  (memory (export "memory") 1)

  (func (export "_start")
    (drop (call $launch (i32.const 7))))
)
