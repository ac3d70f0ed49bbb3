(* The two forms of the machine agree, and the laws of a run that need no policy. *)
From Membptt Require Export Machine.

(* ---------------------------------------------------------------- the two forms of the machine agree *)

Ltac bools := repeat match goal with
  | H : _ && _ = true |- _ => apply andb_prop in H; destruct H
  | H : negb _ = true |- _ => apply negb_true_iff in H
  | H : (_ =? _) = true |- _ => apply Nat.eqb_eq in H
  | H : (_ <? _) = true |- _ => apply Nat.ltb_lt in H
  | H : (_ <=? _) = true |- _ => apply Nat.leb_le in H
  | H : is ?o _ = true |- _ => destruct o eqn:?; simpl in H; try discriminate
  end.

(* what is executed follows the rules *)
Lemma exec_step : forall pol hi s a s1, exec pol hi s a = Some s1 -> step pol hi s a s1.
Proof.
  intros pol hi [w c h i n] a s1 H. destruct a; unfold exec, guard, idle in H; simpl in H;
    match type of H with (if ?b then _ else _) = _ => destruct b eqn:E end; try discriminate;
    injection H as H; subst s1; bools;
    try (match goal with E : _ || _ = true |- _ => apply orb_prop in E; destruct E; bools; [|apply Kee; auto] end);
    destruct c; try discriminate; subst; simpl in *; bools; subst; econstructor; eauto.
Qed.

(* what follows the rules is executed *)
Lemma step_exec : forall pol hi s a s1, step pol hi s a s1 -> exec pol hi s a = Some s1.
Proof.
  intros pol hi s a s1 H. inversion H; subst; unfold exec, guard, idle; simpl;
    repeat match goal with E : ?x = true |- _ => rewrite E; clear E | E : ?x = false |- _ => rewrite E; clear E end;
    simpl; rewrite ?Nat.eqb_refl, ?orb_true_r; simpl; auto;
    repeat match goal with |- context [?x <? ?y] => rewrite (proj2 (Nat.ltb_lt x y)) by lia
                         | |- context [?x <=? ?y] => rewrite (proj2 (Nat.leb_le x y)) by lia end; auto.
Qed.

(* a stream that executes is a run with the same actions *)
Lemma execute_run : forall l pol hi m s s1, execute pol hi m s l = Some s1 ->
  exists r, map fst r = l /\ run pol hi m s r /\ fin s r = s1.
Proof.
  induction l as [|a l IH]; simpl; intros. { injection H as H. exists []. simpl. auto. }
  destruct (exec pol hi s a) as [s2|] eqn:E; try discriminate.
  destruct (Nat.leb_spec (room pol hi s2) m); try discriminate.
  destruct (IH _ _ _ _ _ H) as (r & A & B & D). exists ((a, s2) :: r). simpl. subst. repeat split; auto.
  now apply exec_step.
Qed.

(* and the other way round *)
Lemma run_execute : forall r pol hi m s, run pol hi m s r -> execute pol hi m s (map fst r) = Some (fin s r).
Proof.
  induction r as [|[a s1] r IH]; simpl; intros; auto. destruct H as (A & B & D). rewrite (step_exec _ _ _ _ _ A).
  rewrite (proj2 (Nat.leb_le _ _) B). auto.
Qed.

(* a legal schedule is a run that takes every step backward *)
Lemma legal_run : forall pol m t l, legal pol m t l = true <->
  exists r, map fst r = l /\ run pol t m (init 0 t) r /\ lft (fin (init 0 t) r) = 0.
Proof.
  unfold legal; split; intros.
  - destruct (execute pol t m (init 0 t) l) eqn:E; try discriminate. apply execute_run in E.
    destruct E as (r & A & B & D). exists r. subst. apply Nat.eqb_eq in H. auto.
  - destruct H as (r & A & B & D). subst. rewrite (run_execute _ _ _ _ _ B), D. reflexivity.
Qed.

(* a complete schedule is legal *)
Lemma complete_legal : forall pol m t l, complete pol m t l = true -> legal pol m t l = true.
Proof. unfold complete, legal. intros pol m t l. destruct (execute pol t m (init 0 t) l); auto. intro H.
apply andb_prop in H. tauto. Qed.
(* a run that ends with every slot free is complete *)
Lemma run_complete : forall pol m t r, run pol t m (init 0 t) r -> lft (fin (init 0 t) r) = 0 ->
  room pol t (fin (init 0 t) r) = 0 -> complete pol m t (map fst r) = true.
Proof. intros. unfold complete. now rewrite (run_execute _ _ _ _ _ H), H0, H1. Qed.

(* ---------------------------------------------------------------- laws of a run *)

(* the slots in use, as a sum over positions *)
Lemma room_sumr : forall pol hi s, room pol hi s = sumr (weight pol (hid s) (int s)) 0 (S hi).
Proof. intros. unfold room, sumr. now rewrite Nat.sub_0_r. Qed.

(* a run in two parts *)
Lemma run_app : forall l1 l2 pol hi m s, run pol hi m s (l1 ++ l2) <-> run pol hi m s l1 /\ run pol hi m (fin s l1) l2.
Proof. induction l1 as [| [iv s1] l1]; simpl; intros. tauto. rewrite IHl1. tauto. Qed.
(* its last state *)
Lemma fin_app : forall l1 l2 s, fin s (l1 ++ l2) = fin (fin s l1) l2.
Proof. induction l1 as [| [iv s1] l1]; simpl; auto. Qed.
(* its evaluations *)
Lemma ev_app : forall l1 l2 a b, ev a b (l1 ++ l2) = ev a b l1 + ev a b l2.
Proof. induction l1 as [| [iv s1] l1]; simpl; intros; auto. rewrite IHl1. lia. Qed.
(* its forwards *)
Lemma cost_app : forall l1 l2, cost (l1 ++ l2) = cost l1 + cost l2.
Proof. induction l1; simpl; intros; auto. rewrite IHl1. lia. Qed.
(* its recorded forwards *)
Lemma recorded_app : forall l1 l2, recorded (l1 ++ l2) = recorded l1 + recorded l2.
Proof. induction l1 as [|a l1 IH]; simpl; intros; auto. destruct a; rewrite ?IH; auto. Qed.
(* steps a .. b-1 are steps a .. v-1 and steps v .. b-1 *)
Lemma ev_cut : forall l a v b, a <= v <= b -> ev a b l = ev a v l + ev v b l.
Proof.
  induction l as [| [x s1] l]; simpl; intros; auto. rewrite (IHl a v b) by lia. unfold evi; destruct (span x); simpl.
  lia.
Qed.
(* evaluations of some steps are among all forwards *)
Lemma ev_le_cost : forall l a b, ev a b l <= cost (map fst l).
Proof. induction l as [| [x s] l]; simpl; intros; auto. specialize (IHl a b). unfold evi; destruct (span x); simpl.
lia. Qed.
(* the number of steps left never grows *)
Lemma lft_step : forall pol hi s x s1, step pol hi s x s1 -> lft s1 <= lft s.
Proof. inversion 1; simpl; lia. Qed.
(* the same over a run *)
Lemma lft_run : forall l pol hi m s, run pol hi m s l -> lft (fin s l) <= lft s.
Proof.
  induction l as [| [iv s1] l]; simpl; intros; auto. destruct H as (A & _ & C).
  apply lft_step in A. apply IHl in C. lia.
Qed.
(* a policy that allows no less and charges no more accepts the same schedules *)
Definition looser pol pol' := (hidden_ok pol = true -> hidden_ok pol' = true) /\ (internal_ok pol = true ->
  internal_ok pol' = true) /\
  (input_held pol = true -> input_held pol' = true) /\ (forall h o i, weigh pol' h o i <= weigh pol h o i).
(* a run under one policy is a run under a looser one *)
Lemma looser_run : forall l pol pol' hi m s, looser pol pol' -> run pol hi m s l -> run pol' hi m s l.
Proof.
  induction l as [|[x s1] l IH]; simpl; intros pol pol' hi m s L R; auto. destruct R as (T & W & R).
  pose proof L as (L1 & L2 & L3 & L4). split; [|split; [|apply (IH pol); auto]].
  - inversion T; subst; constructor; auto; unfold available in *;
    destruct (h q), (output i q), (i q); simpl in *; rewrite ?andb_true_r, ?andb_false_r in *; auto.
  - eapply Nat.le_trans; [|exact W]. rewrite !room_sumr. apply sumr_le. intros. apply L4.
Qed.
(* so is a schedule *)
Lemma looser_legal : forall pol pol' m t l, looser pol pol' -> legal pol m t l = true -> legal pol' m t l = true.
Proof.
  intros pol pol' m t l L H. apply legal_run in H. destruct H as (r & A & R & B). apply legal_run.
  exists r. repeat split; auto. apply looser_run with pol; auto.
Qed.
(* every state after the first is within the slots *)
Lemma room_run : forall l pol hi m s, run pol hi m s l -> room pol hi s <= m -> room pol hi (fin s l) <= m.
Proof. induction l as [| [iv s1] l]; simpl; intros; auto. apply IHl; tauto. Qed.
