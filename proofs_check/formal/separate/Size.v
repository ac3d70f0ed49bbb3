(* alpha, the slots of an internal state: any number, at least 2. The theorems on separate storage are about every
   alpha. *)
From Membptt Require Export Counting.

(* an argument that Coq fills in wherever alpha is mentioned *)
Class Size := { alpha : nat; alpha2 : 2 <= alpha }.
