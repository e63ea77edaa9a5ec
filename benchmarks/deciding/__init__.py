"""What the rule of a final costs against following its leader."""
